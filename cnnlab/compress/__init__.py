"""From a trained run to a small file: the stages as ordinary runs, the bytes by layer and stage, the page that shows them."""
