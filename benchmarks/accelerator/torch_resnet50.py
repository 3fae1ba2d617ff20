"""PyTorch's ResNet-50 as one would train it: channels last, autocast to bf16, torch.compile. Prints one line of JSON.

python benchmarks/accelerator/torch_resnet50.py --batch=256 --side=224 --steps=32
"""

import argparse
import json
import time


def main() -> None:
    """Times steps of forward, backward and SGD with momentum on random images that are on the device already."""
    parser = argparse.ArgumentParser()
    for name in ("batch", "side", "steps"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args()
    import torch
    import torchvision

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = torchvision.models.resnet50().to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    images = torch.randn(given.batch, 3, given.side, given.side, device=device).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 1000, (given.batch,), device=device)
    compiled = torch.compile(model) if device == "cuda" else model

    def step() -> None:
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(compiled(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    for _ in range(3):
        step()
    wait()
    began = time.perf_counter()
    for _ in range(given.steps):
        step()
    wait()
    seconds = (time.perf_counter() - began) / given.steps
    print(json.dumps({"images_per_second": given.batch / seconds, "torch": torch.__version__, "device": device}))


if __name__ == "__main__":
    main()
