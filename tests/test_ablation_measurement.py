"""Measurements of claims: every shipped one is declared in full; a toy is measured, kept, decided and goes on."""

import dataclasses
import importlib
import json
import pathlib
import re
import shlex
import textwrap

import pytest

from cnnlab import files, own
from cnnlab.ablation.analyse.claim_verdict import Every
from cnnlab.ablation.analyse.exact_verdicts import at_least, at_most
from cnnlab.ablation.analyse.measured import analyse_measured
from cnnlab.ablation.analyse.rules import Rule
from cnnlab.ablation.plan import declaration
from cnnlab.ablation.plan.measurement import Measured, Measurement
from cnnlab.ablation.plan.study import Verdict
from cnnlab.ablation.report.cards.collect import collect_records
from cnnlab.ablation.report.measured import number_table
from cnnlab.ablation.run.measure import measured_seeds, run_measurement
from cnnlab.errors import UsageError
from cnnlab.metric import Metric
from cnnlab.runs import revision
from cnnlab.runs.catalogue import measurement_files
from cnnlab.runs.experiments import load_measurement
from cnnlab.runs.revision import Revision
from tests.commands import ROOT, command
from tests.stages import slow_but

FILES = {name: path.relative_to(ROOT) for name, path in measurement_files().items()}
NAMES = sorted(FILES)
WITH_DATA = (
    "c06_batch_norm",
    "c08_dropout",
    "c10_gap",
    "c11_batch_sizes",
    "c13_momentum_adam",
    "c33_adversarial",
    "c41_nearest_neighbours",
    "c43_input_scales",
    "c46_tuned_regularizers",
    "c47_noisy_batch_norm",
    "c53_bigger_networks",
)
"""Measured on MNIST or Fashion-MNIST, which not every machine has; all others have to end well."""
LONG = (
    "c06_batch_norm",
    "c08_dropout",
    "c09_sparse_weights",
    "c10_gap",
    "c11_batch_sizes",
    "c13_momentum_adam",
    "c19_dense_evaluation",
    "c28_pixelcnn_sampling",
    "c33_adversarial",
    "c43_input_scales",
    "c44_same_curve",
    "c46_tuned_regularizers",
    "c47_noisy_batch_norm",
)
"""Measured by hand alone: test_claims_vgg.py, test_claims_counts.py and test_parallel.py have what they state, and those that
train for minutes are made of what test_engine_family.py has."""

TOY = """
    \"\"\"A toy.\"\"\"
    from cnnlab.ablation.analyse.claim_verdict import every
    from cnnlab.ablation.analyse.exact_verdicts import at_least, at_most, identity
    from cnnlab.ablation.analyse.verdicts import contrast, on
    from cnnlab.ablation.plan.measurement import Measured, Measurement
    from cnnlab.metric import Metric

    def measure(seed: int) -> Measured:
        with open("calls.txt", "a") as file:
            file.write(f"{seed}\\n")
        return Measured(
            {"difference": {"linear": 1e-15 * seed, "ReLU": 0.5 + 0.01 * seed}, "rank": {"linear": 3.0, "ReLU": 4.0}},
            {"linear": ((0.0, 1.0), (1.0, 2.0 + seed))},
            lower_bounds={"rank": ["ReLU"] if seed > 1 else []},
        )

    measurement = Measurement(
        claim="C99",
        question="Is a linear network linear?",
        measure=measure,
        metrics=(Metric("difference", higher_is_better=False), Metric("rank")),
        seeds=4,
        verdict=every(
            identity("C99", "linear", 0.0, 1e-12, "It is linear"),
            on("rank", at_most("C99", "linear", BOUND, "The rank is small")),
            requires=(contrast("C99", "ReLU", "worse", "With ReLU it is not", against="linear"),),
            scope="a toy",
        ),
    )
"""


def module_of(name: str):
    return importlib.import_module(".".join(FILES[name].with_suffix("").parts))


@pytest.mark.parametrize("name", NAMES)
def test_a_measurement_is_declared_in_full(name: str):
    module = module_of(name)
    measurement = module.measurement
    assert isinstance(measurement, Measurement) and isinstance(measurement.verdict, Every)
    for word in ("Paper:", "Command:", "Result:"):
        assert word in module.__doc__, f"the docstring has no line {word}"
    assert f"measure --experiment={name}" in module.__doc__
    assert re.fullmatch(r"C\d+", measurement.claim) and name.startswith(f"c{int(measurement.claim[1:]):02d}_")
    assert measurement.question.endswith("?") and measurement.verdict.scope
    roles = measurement.verdict.roles
    assert any(role == "decides" for role, _ in roles) and all(rule.claim == measurement.claim for _, rule in roles)
    declared = {metric.name for metric in measurement.metrics}
    assert {rule.metric for _, rule in roles} - {""} <= declared
    parts = declaration.describe_rule(measurement.verdict)["rules"]
    assert all(part["test"] and part["says"] for part in parts)
    json.dumps(parts)


@pytest.mark.parametrize("name", slow_but(NAMES, thorough=LONG))
def test_one_seed_of_a_measurement_gives_what_is_declared_and_refutes_nothing(name: str, tmp_path: pathlib.Path):
    code, out, err = command("measure", f"--experiment={name}", "--seeds=1", "--exploratory", f"--workdir={tmp_path}", cwd=ROOT)
    if name in WITH_DATA and code == 3 and "data" in err:
        pytest.skip(err.strip().splitlines()[-1])
    assert code == 0, err
    content = files.read_record(tmp_path / "measurement.json")
    assert content is not None and len(content["seeds"]) == 1
    assert "no verdict" in out and "[refuted]" not in out and "[refuted, required]" not in out, out


@pytest.fixture(scope="module", autouse=True)
def committed():
    """A commit that holds all code, whatever the checkout of the tests is like."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(revision, "revision_of", lambda own, sources: Revision("1" * 40))
        yield


def write_toy(folder: pathlib.Path, bound: str = "3.0") -> None:
    (folder / "toy.py").write_text(textwrap.dedent(TOY).replace("BOUND", bound))


def only_folder(place: pathlib.Path) -> pathlib.Path:
    (folder,) = (place / "runs").glob("measurement-toy-*")
    return folder


def test_a_declared_measurement_has_a_verdict_and_measures_no_seed_twice(tmp_path: pathlib.Path):
    write_toy(tmp_path)
    for _ in range(2):
        code, out, err = command("measure", "--experiment=toy.py", cwd=tmp_path)
        assert code == 0, err
        assert "C99: exact" in out and "[supported at small scale, required] With ReLU it is not" in out
    assert (tmp_path / "calls.txt").read_text().split() == ["0", "1", "2", "3"]
    folder = only_folder(tmp_path)
    declared = declaration.read_declaration(folder)
    verdict = Verdict.from_json(files.read_record(folder / "verdict.json") or {})
    assert declared is not None and verdict.declaration == declared["digest"] and declared["commit"] == "1" * 40
    assert verdict.verdict == "exact" and [part.metric for part in verdict.parts] == ["difference", "difference", "rank"]
    assert declared["declared"]["parts"][2]["metric"] == "rank" and declared["declared"]["seeds"] == [0, 1, 2, 3]
    report = (folder / "report.md").read_text()
    assert "| linear | 3 |  |" in report and "| ReLU | ≥ 4 |  |" in report


def test_the_command_of_the_page_gives_the_same_verdict_and_the_page_traces_it_to_the_declaration(tmp_path: pathlib.Path):
    said, records = "python launch.py measure --experiment=toy.py", []
    for place in (tmp_path / "first", tmp_path / "again"):
        place.mkdir()
        write_toy(place)
        code, _, err = command(*shlex.split(said)[2:], cwd=place)
        assert code == 0, err
        records += collect_records([place], lambda name: None)
        said = records[-1].command
    first, again = records
    assert first.command == "python launch.py measure --experiment=toy.py" and again.verdict == first.verdict
    assert first.declaration["digest"] == first.verdict.declaration and first.declaration["commit"] == "1" * 40
    start, end = first.curves["linear"]
    assert start == (0.0, 1.0, 1.0, 1.0) and end == (1.0, 3.5, 2.0, 5.0)
    assert {arm.name: arm.numbers["rank"].lower_bounds for arm in first.arms} == {"linear": 0, "ReLU": 2}, "of four seeds"
    assert [arm.name for arm in first.arms] == ["linear", "ReLU"] and first.compared == ["difference", "rank"]
    (other,) = (tmp_path / "again" / "runs").iterdir()
    content = files.read_record(other / "measurement.json")
    for seed, one in content["seeds"].items():
        one |= {"time": 0.0, "uncommitted_changes": True} if seed == "0" else {"uncommitted_changes": False}
    files.write_record(other / "measurement.json", content | {"sources": {}})
    (found,) = collect_records([other], lambda name: None)
    assert [one.partition(" were ")[0] for one in found.deviations] == [
        "1 of 4 seeds",
        "1 of 4 seeds",
        "Code changed between the declaration and the measurement.",
    ]


def test_an_exact_statement_is_refuted_by_one_number(tmp_path: pathlib.Path):
    write_toy(tmp_path, bound="2.5")
    code, out, _ = command("measure", "--experiment=toy.py", cwd=tmp_path)
    assert code == 0 and "C99: refuted" in out and "linear ≤ 2.5 in rank in 0 of 4 runs; the largest is 3" in out


@pytest.mark.parametrize("word", ["--seeds=2", "--exploratory"])
def test_what_differs_from_the_declaration_has_no_verdict(word: str, tmp_path: pathlib.Path):
    write_toy(tmp_path)
    code, out, _ = command("measure", "--experiment=toy.py", word, cwd=tmp_path)
    assert code == 0 and "no verdict" in out and "[exact] It is linear" in out and "C99: " not in out
    assert not (only_folder(tmp_path) / "verdict.json").exists() and not (only_folder(tmp_path) / "declaration.json").exists()


def test_a_measurement_takes_over_no_seed_of_an_exploratory_one_or_of_other_code(tmp_path: pathlib.Path):
    content, sources = {"digest": "ab" * 32}, {"toy.py": "1", "b.py": "1"}
    for why in ("exploratory: as --exploratory asks", ""):
        files.write_record(tmp_path / "measurement.json", {"exploratory": why, "sources": sources, "seeds": {}})
        if why:
            with pytest.raises(UsageError, match="holds a measurement that is exploratory, and this one is not"):
                declaration.keep_measured_declaration(tmp_path, content, "", sources)
            assert declaration.read_declaration(tmp_path) is None
            declaration.keep_measured_declaration(tmp_path, {}, why, sources)
        else:
            declaration.keep_measured_declaration(tmp_path, content, why, sources)
        with pytest.raises(UsageError, match=r"holds a measurement that was made by other code \(b.py\)\. Give another"):
            declaration.keep_measured_declaration(tmp_path, {} if why else content, why, {**sources, "b.py": "2"})
    with pytest.raises(UsageError, match="follows the declaration abababab, and this one does not"):
        declaration.keep_measured_declaration(tmp_path, {}, "exploratory", sources)


def test_a_measurement_is_no_training_and_a_training_no_measurement(tmp_path: pathlib.Path):
    write_toy(tmp_path)
    code, _, err = command("train", "--experiment=toy.py", cwd=tmp_path)
    assert code == 2 and "launch.py measure --experiment=" in err
    code, _, err = command("measure", "--experiment=mlp_digits", cwd=tmp_path)
    assert code == 2 and "launch.py train --experiment=mlp_digits" in err
    code, _, err = command("measure", cwd=tmp_path)
    assert code == 2 and "which experiment?" in err


def test_a_metric_that_is_not_declared_is_refused():
    measurement = Measurement(
        "C99", "Is it?", lambda seed: Measured({"other": {}}), (Metric("difference"),), verdict=lambda: None
    )
    with pytest.raises(UsageError, match="gives other, and the file declares difference"):
        measurement.check(measurement.measure(0))
    numbers = {0: Measured({"difference": {"a": 1.0}})}
    assert analyse_measured(measurement, numbers).rows[0].values == ((0, 1.0),)
    with pytest.raises(UsageError, match="compares differences, which the measurement does not declare"):
        analyse_measured(dataclasses.replace(measurement), numbers, "differences")


def test_a_number_that_is_not_finite_is_said_and_leaves_its_part_untested():
    metric = Metric("gap", higher_is_better=False)
    measured = {seed: Measured({"gap": {"a": number, "b": 1.0}}) for seed, number in enumerate((0.5, 0.25, float("nan")))}
    assert number_table(measured, metric) == [("a", "0.375", "0.25 to 0.5; 1 of 3 not finite"), ("b", "1", "")]
    measurement = Measurement("C99", "Is it?", lambda seed: measured[seed], (metric,), verdict=lambda: None)
    found = at_most("C99", "a", 1.0, "It is small")(analyse_measured(measurement, measured))
    assert found.verdict == "not tested" and " 1 of 3 runs of a has no finite number." in found.sentence
    assert at_most("C99", "b", 1.0, "It is small")(analyse_measured(measurement, measured)).verdict == "exact"


def test_lower_bounds_are_kept_and_a_bound_is_not_proven_by_them(tmp_path: pathlib.Path):
    numbers = {"steps": {"quick": 100.0, "never": 600.0}}
    found = Measured(numbers, lower_bounds={"steps": ("never",)})
    metrics = (Metric("steps", higher_is_better=False),)
    measurement = Measurement("C99", "Is it?", lambda seed: found, metrics, verdict=lambda: None)
    measured = measured_seeds(run_measurement(measurement, (0, 1), tmp_path, about={}, data_dir=None))
    assert {row.arm: row.lower_bounds for row in analyse_measured(measurement, measured).rows} == {"quick": (), "never": (0, 1)}
    assert number_table(measured, metrics[0]) == [("quick", "100", ""), ("never", "≥ 600", "")]

    def word(rule: Rule) -> str:
        return rule.decide(analyse_measured(measurement, measured)).verdict

    assert word(at_most("C99", "quick", 200.0, "…")) == "exact" and word(at_most("C99", "never", 500.0, "…")) == "refuted"
    assert word(at_most("C99", "never", 700.0, "…")) == word(at_least("C99", "never", "never", "…")) == "not tested"
    assert word(at_least("C99", "never", 500.0, "…")) == word(at_most("C99", "quick", "never", "…")) == "exact"
    with pytest.raises(UsageError, match="calls steps of others a lower bound and gives no such number"):
        measurement.check(Measured(numbers, lower_bounds={"steps": ["others"]}))


def test_the_words_of_a_card_are_no_part_of_the_declaration(tmp_path: pathlib.Path):
    digests = []
    for words in (
        "",
        'card=Card("One.", quick="--seeds=2"),',
        'card=Card(published="Two."),',
        'first_seed=1, card=Card("One."),',
    ):
        write_toy(tmp_path)
        text = (tmp_path / "toy.py").read_text().replace("seeds=4,", f"seeds=4, {words}")
        (tmp_path / "toy.py").write_text(f"from cnnlab.ablation.plan.study import Card\n{text}")
        digests.append(declaration.declare_measurement(load_measurement(str(tmp_path / "toy.py"))).digest)
        own.forget_changed()
    assert digests[1] == digests[2] != digests[3] and digests[0] != digests[1]
