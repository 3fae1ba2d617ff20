"""Reads BibTeX entries and cites works as a text does: He et al. (2016). Imports no jax."""

import dataclasses
import re
import unicodedata

ACCENTS = {"`": "\u0300", "'": "\u0301", "^": "\u0302", "~": "\u0303", '"': "\u0308", "c": "\u0327"}
"""{letter after the backslash in TeX: combining accent}."""


@dataclasses.dataclass(frozen=True)
class Work:
    """An entry of a bibliography."""

    key: str
    bibtex: str
    """The entry as it stands in the file."""
    fields: dict[str, str]
    """{name of a field: its text without the marks of TeX}."""

    @property
    def authors(self) -> str:
        """Returns `He et al.`, `Kingma and Ba`, or one author's family name."""
        names = self.fields.get("author", self.key).split(" and ")
        families = [name if "," in name else _family(name) for name in names]
        if len(families) > 2 or "others" in families:
            return f"{families[0]} et al."
        return " and ".join(families)

    @property
    def cited(self) -> str:
        """Returns `He et al. 2016`."""
        return f"{self.authors} {self.fields.get('year', '')}".strip()

    @property
    def link(self) -> str:
        """Returns the address of the work; empty where the entry has none."""
        if "eprint" in self.fields:
            return f"https://arxiv.org/abs/{self.fields['eprint']}"
        if "doi" in self.fields:
            return f"https://doi.org/{self.fields['doi']}"
        return self.fields.get("howpublished", "")


def _family(name: str) -> str:
    """Returns the family name, with particles in small letters before it: `van den Oord`."""
    words = name.split()
    first = next((i for i, word in enumerate(words) if i and word[0].islower()), len(words) - 1)
    return " ".join(words[first:])


def read_bibliography(text: str) -> dict[str, Work]:
    """Returns {key: work} of the entries of a BibTeX file that writes `name = {text}`, one field a line."""
    works = {}
    for found in re.finditer(r"^@\w+\{(?P<key>[^,\s]+),\n(?P<fields>.*?)^\}$", text, flags=re.MULTILINE | re.DOTALL):
        pairs = re.findall(r"^\s*(\w+) = \{(.*)\},?$", found["fields"], flags=re.MULTILINE)
        works[found["key"]] = Work(found["key"], found[0], {name: plain(content) for name, content in pairs})
    return works


def plain(tex: str) -> str:
    r"""Returns text without the marks of TeX: `M{\"u}ller` becomes `Müller`."""
    tex = re.sub(r"\\url\{([^}]*)\}", r"\1", tex)
    tex = re.sub(r"\{?\\c\{(\w)\}\}?", lambda found: found[1] + ACCENTS["c"], tex)
    tex = re.sub(r"""\{\\([`'^~"])(\w)\}""", lambda found: found[2] + ACCENTS[found[1]], tex)
    tex = tex.replace(r"{\o}", "ø").replace("--", "–")
    return unicodedata.normalize("NFC", re.sub(r"[{}]", "", tex))
