"""What a methods section says of a study, and whom it cites: every fact that decides values is in it."""

import re
from pathlib import Path
from typing import get_args

import msgspec
import pytest
import yaml
from support.runs import ROOT

from ntkhpc import __version__, references, studies
from ntkhpc.data.calorimeter import Calorimeter
from ntkhpc.data.cifar10 import Cifar10
from ntkhpc.data.mnist import Mnist
from ntkhpc.data.source import Facts, Source
from ntkhpc.data.sources import AnySource
from ntkhpc.data.user_showers import ShowerFile
from ntkhpc.data.user_table import TableFile
from ntkhpc.errors import DataError
from ntkhpc.studies.base import Study

SHA = "0123456789abcdef" * 4
FILE = Facts(features=3, outputs=1, rows=4321, bytes=9, sha256=(SHA,))

SOURCES: dict[str, tuple[Source, Facts | None, tuple[str, ...]]] = {
    "electrons in layers": (
        Calorimeter(pool=5000, test=777, seed=7),
        None,
        ("electrons", "10 to 500 GeV", "log-uniform", "sampling calorimeter of 25 layers", "17 of 2.4 mm",
         "8 of 4.8 mm", "tungsten", "silicon (0.5 mm)", "17 %/sqrt(E/GeV)", "constant term of 1 %", "no noise",
         "50 MeV",
         "log(E)", "25 energies in the layers", "parametrisation", "seed 7", "5,000 showers", "N_T = 777"),
    ),
    "photons and pions in sodium iodide": (
        Calorimeter(particles=("photon", "pion"), geometry="nai", nai_layers=9, layer_mm=40.0, stochastic_term=0.03,
                    constant_term=0.02, noise=0.1, inputs="rings", cells=7, cell_mm=20.0, spectrum="uniform",
                    energy_min=2.0, energy_max=30.0, threshold=0.2, scaling="feature"),
        None,
        ("photons and pions", "2 to 30 GeV", "uniform in",
         "homogeneous calorimeter of 9 layers of sodium iodide (40 mm",
         "3 %/sqrt", "2 %", "noise of 100 MeV", "7 x 7 cells of 20 mm", "36 energies in square rings", "200 MeV",
         "standardised one by one"),
    ),
    "a file of showers": (
        ShowerFile(path=("/secret/folder/ele.h5",), layout="calochallenge", pool=50, test=20, pdg=(11, 22), scale=50.0,
                   energy_min=1.0, energy_max=90.0, inputs="cells", order="file"),
        FILE,
        ("ele.h5 (sha256 0123456789ab)", "CaloChallenge", "arXiv:2410.21611", "4,321", "1 to 90 GeV", "11 or 22",
         "divided by 50", "cells of all layers", "order of the files"),
    ),
    "a table": (
        TableFile(path="/secret/folder/jets.csv", x=("pt", "eta", "mass"), y=("energy",), pool=600, test=200,
                  target="log", target_unit="GeV", scaling="feature", duplicates="drop"),
        FILE,
        ("jets.csv", "4,321 rows", "sha256 0123456789ab", "pt, eta and mass", "the logarithm of energy in GeV",
         "standardised one by one", "first is kept", "600 samples", "N_T = 200"),
    ),
    "MNIST": (
        Mnist(pool=300, test=100, classes=(3, 8), pixels="fixed", pixel_mean=0.1307, pixel_std=0.3081),
        None,
        ("MNIST", "28 x 28", "classes 3 and 8", "(pixel/255 - 0.1307)/0.3081", "one output a class", "300 images"),
    ),
    "CIFAR-10": (
        Cifar10(pool=300, test=100, classes=("cat", "dog"), targets=(-0.5, 0.5), grey=True, size=28),
        None,
        ("CIFAR-10", "in grey", "28 x 28", "cat and dog", "the numbers -0.5 and 0.5", "784 inputs", "pixels/255"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SOURCES)
def test_the_description_of_data_holds_what_decides_them_and_no_path(name: str) -> None:
    source, facts, said = SOURCES[name]
    text = source.description(facts or source.examine())
    assert [one for one in said if one not in text] == []
    assert "secret" not in text
    assert "  " not in text
    assert text.endswith(".")


def test_every_source_has_a_description_of_its_own() -> None:
    assert {type(source) for source, _, _ in SOURCES.values()} == set(get_args(AnySource))
    for one in get_args(AnySource):
        assert one.origin is not Source.origin, one


ENSEMBLE = """
name = "talked-about"
seed = 41
[data]
source = "calorimeter"
[network]
widths = [8, 1600]
depth = 3
activation = "relu"
weight_variance = 1.7
bias_variance = 0.3
[training]
learning_rate_fraction = 0.45
momentum = 0.85
precision = "float64"
matmul_precision = "high"
[training.steps]
factor = 6.0
power = 1.5
[ensemble]
n_train = [21, 1234]
members = 77
draws = 2
[infinite_width]
n_train = [19, 4321]
draws = 5
times = ["steps", "fixed", "infinite"]
fixed_steps = 333
"""

BAYES = """
kind = "bayes"
name = "talked-about"
seed = 43
[data]
source = "calorimeter"
[network]
widths = [17, 1600]
activation = "erf"
[posterior]
n_train = [13, 21]
draws = 3
temperature = 0.07
precisions = [1.5, 2.5]
[scan]
temperatures = [0.7]
readout_factors = [0.2, 9.0]
[sampling]
chains = 6
sampler = "langevin"
learning_rate = 0.004
warmup = 111
draws = 200
thin = 120
widths = [17]
n_train = [21]
[adaptive]
populations = 5
neurons = 1111
updates = 222
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ENSEMBLE, (
            "3 hidden layers of 8 or 1,600 units", "ReLU", "C_W = 1.7", "C_b = 0.3", "NTK parametrisation",
            "1 linear output", "full-batch gradient descent with heavy-ball momentum 0.85", "6 N_D^1.5 steps",
            "0.45 times",
            "2 (1 + 0.85)", "float64", "precision high", "77 networks", "seed 41", "21 and 1,234", "2 draws",
            "19 and 4,321", "5 draws",
            "333 steps at every N_D", "the end of training", "(f - y)^2/2", "eps_L = sigma_L/mu_L", "N_T = 2,000",
        )),
        (BAYES, (
            "17 or 1,600", "erf", "no biases", "temperature T = 0.07", "lam_0 = 1.5", "lam_1 = 2.5", "13 and 21",
            "3 draws", "T = 0.7", "0.2 and 9", "6 chains of full-batch Langevin dynamics", "seed 43", "N1 = 17",
            "P = 21",
            "learning rate 0.004", "111 samples", "200 kept samples", "120 steps", "5 populations of 1,111 neurons",
            "222 updates", "(f - y)^2, without the factor 1/2", "float64",
        )),
    ],
    ids=["ensemble", "bayes"],
)  # fmt: skip
def test_the_methods_of_a_study_hold_every_number_that_decides_its_values(text: str, said: tuple[str, ...]) -> None:
    study = studies.loads(text)
    methods = "\n".join(study.methods())
    assert [one for one in said if one not in methods] == []
    assert study.data.description(study.known) in methods
    assert "  " not in methods


def test_what_a_study_goes_without_is_not_described() -> None:
    plain = re.sub(r"\[(scan|adaptive|sampling)\]\n(\w+ = .*\n)+", "", BAYES)
    methods = "\n".join(studies.loads(plain + "[sampling]\nchains = 0\n[adaptive]\npopulations = 0\n").methods())
    assert "No networks are sampled." in methods
    assert not re.search("populations|Theory alone|R-hat|  ", methods)
    methods = "\n".join(
        studies.loads(ENSEMBLE.replace("momentum = 0.85", "").replace("bias_variance = 0.3", "")).methods()
    )
    assert "no biases" in methods
    assert "momentum" not in methods
    assert "stability bound 2 N_D K/lambda_max" in methods


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_study_names_its_papers(path: Path) -> None:
    study = studies.loads(path.read_text())
    cited = study.references
    assert references.EHK in cited
    assert (references.PAP in cited) == (path.stem.startswith("bayes") or path.stem == "template-bayes")
    known = {"calorimeter": references.GRINDHAMMER_PETERS, "mnist": references.MNIST, "cifar10": references.CIFAR10}
    assert set(cited) & set(known.values()) == {known[study.data.source]}
    for number in re.findall(r"arXiv:(\d+\.\d+)", "\n".join(methods_of(study))):
        assert number in {one.arxiv for one in cited}, number


def methods_of(study: Study) -> tuple[str, ...]:
    return study.methods() if study.facts or study.data.facts() else ()


EVERY = [one for one in vars(references).values() if isinstance(one, references.Reference)]


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.key)
def test_an_entry_of_bibtex_is_complete_and_balanced(one: references.Reference) -> None:
    entry = one.bibtex()
    assert re.match(rf"@(article|misc|software|techreport|inproceedings){{{one.key},\n", entry)
    assert entry.count("{") == entry.count("}")
    fields = dict(re.findall(r"^  (\w+) = \{(.*)\},$", entry, re.MULTILINE))
    assert {"author", "title", "year"} <= fields.keys()
    assert fields["title"] == f"{{{one.title}}}"
    assert len(fields["author"].split(" and ")) == len(one.authors)
    assert ("eprint" in fields) == bool(one.arxiv)
    assert "" not in fields.values()
    assert one.title in one.cited()
    assert one.link == "" or one.link.startswith("https://")


def test_keys_of_references_are_their_own() -> None:
    assert len({one.key for one in EVERY}) == len(EVERY) > 5


@pytest.mark.promise("CITATION.cff says of this software and of the two papers what reports say.")
def test_the_citation_file_says_what_reports_say() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == references.SOFTWARE.version == __version__
    assert citation["title"] == references.SOFTWARE.title
    assert [f"{{{one['name']}}}" for one in citation["authors"]] == list(references.SOFTWARE.authors)
    assert len(citation["references"]) == 2
    for entry, one in zip(citation["references"], (references.EHK, references.PAP), strict=True):
        assert entry["title"] == one.title
        assert tuple(f"{person['given-names']} {person['family-names']}" for person in entry["authors"]) == one.authors
        assert (entry["year"], entry["journal"], entry["doi"]) == (one.year, one.where[1], one.doi)
        assert entry["url"] == one.link
        pages = f"{entry['start']}-{entry['end']}" if "start" in entry else ""
        assert (str(entry.get("volume", "")), pages) == (one.volume, one.pages)


def test_the_readme_names_the_papers_as_reports_do() -> None:
    text = " ".join((ROOT / "README.md").read_text().split())
    for one in (references.EHK, references.PAP):
        assert one.title in text
        assert one.link in text


def test_a_frozen_study_without_facts_of_its_files_says_so() -> None:
    text = 'name = "t"\n[data]\nsource = "file"\npath = "a.csv"\nx = ["a"]\ny = ["b"]\npool = 9\ntest = 9\n'
    study = studies.loads(f"{text}[network]\nwidths = [4]\n[ensemble]\nn_train = [4]\nmembers = 2\n")
    with pytest.raises(DataError, match="have not been looked at"):
        study.methods()
    known = msgspec.structs.replace(study, facts=FILE)
    assert "a.csv" in "\n".join(known.methods())
