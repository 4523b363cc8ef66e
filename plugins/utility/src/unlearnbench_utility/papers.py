"""The papers behind the measures and where we differ from them. Imports no more than the contract."""

from __future__ import annotations

from unlearnbench.api import Paper

SKLEARN = Paper(
    title="Scikit-learn: Machine Learning in Python",
    authors=(
        "Fabian Pedregosa", "Gaël Varoquaux", "Alexandre Gramfort", "Vincent Michel", "Bertrand Thirion",
        "Olivier Grisel", "Mathieu Blondel", "Peter Prettenhofer", "Ron Weiss", "Vincent Dubourg", "Jake Vanderplas",
        "Alexandre Passos", "David Cournapeau", "Matthieu Brucher", "Matthieu Perrot", "Édouard Duchesnay",
    ),
    year=2011,
    venue="Journal of Machine Learning Research",
    bibtex="""@article{pedregosa2011scikit,
  title   = {Scikit-learn: Machine Learning in {Python}},
  author  = {Pedregosa, Fabian and Varoquaux, Ga{\\"e}l and Gramfort, Alexandre and Michel, Vincent and
             Thirion, Bertrand and Grisel, Olivier and Blondel, Mathieu and Prettenhofer, Peter and Weiss, Ron and
             Dubourg, Vincent and Vanderplas, Jake and Passos, Alexandre and Cournapeau, David and
             Brucher, Matthieu and Perrot, Matthieu and Duchesnay, {\\'E}douard},
  journal = {Journal of Machine Learning Research},
  volume  = {12},
  pages   = {2825--2830},
  year    = {2011},
}""",
    deviations=(
        "Where scikit-learn warns that a metric is ill-defined and returns 0, the reading has no value but a status.",
        "A Matthews correlation over rows of one class, or of predictions of one class, has a status; scikit-learn "
        "returns 0.",
    ),
)  # fmt: skip

CALIBRATION = Paper(
    title="On Calibration of Modern Neural Networks",
    authors=("Chuan Guo", "Geoff Pleiss", "Yu Sun", "Kilian Q. Weinberger"),
    year=2017,
    venue="International Conference on Machine Learning (ICML)",
    arxiv="1706.04599",
    bibtex="""@inproceedings{guo2017calibration,
  title     = {On Calibration of Modern Neural Networks},
  author    = {Guo, Chuan and Pleiss, Geoff and Sun, Yu and Weinberger, Kilian Q.},
  booktitle = {International Conference on Machine Learning},
  year      = {2017},
  eprint    = {1706.04599},
  archiveprefix = {arXiv},
}""",
    deviations=(
        "The Brier score, which the paper does not use, is the squared distance between the probability vector and the "
        "one-hot label, from 0 to 2.",
    ),
)

COMPLETENESS = Paper(
    title="Towards Making Systems Forget with Machine Unlearning",
    authors=("Yinzhi Cao", "Junfeng Yang"),
    year=2015,
    venue="IEEE Symposium on Security and Privacy",
    doi="10.1109/SP.2015.35",
    bibtex="""@inproceedings{cao2015towards,
  title     = {Towards Making Systems Forget with Machine Unlearning},
  author    = {Cao, Yinzhi and Yang, Junfeng},
  booktitle = {IEEE Symposium on Security and Privacy},
  pages     = {463--480},
  year      = {2015},
  doi       = {10.1109/SP.2015.35},
}""",
    deviations=(
        "Completeness is told for each split by itself; the paper speaks of the share of equal predictions over inputs "
        "of any kind.",
    ),
)

TOW = Paper(
    title="What makes unlearning hard and what to do about it",
    authors=(
        "Kairan Zhao", "Meghdad Kurmanji", "George-Octavian Bărbulescu", "Eleni Triantafillou", "Peter Triantafillou",
    ),
    year=2024,
    venue="Advances in Neural Information Processing Systems (NeurIPS)",
    arxiv="2406.01257",
    bibtex="""@inproceedings{zhao2024makes,
  title     = {What makes unlearning hard and what to do about it},
  author    = {Zhao, Kairan and Kurmanji, Meghdad and B{\\u{a}}rbulescu, George-Octavian and Triantafillou, Eleni and
               Triantafillou, Peter},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {37},
  pages     = {12293--12333},
  year      = {2024},
}""",
    deviations=(
        "The attack of ToW-MIA is a threshold on the confidence in the true class, the one that separates retain from "
        "test rows best; the official code trains a kernel support vector classifier on the same confidence.",
        "Retain and test rows weigh the same in total whatever their numbers, so that no rows are drawn; the official "
        "code takes the first retain rows, as many as there are test rows.",
    ),
)  # fmt: skip

AUS = Paper(
    title="DUCK: Distance-based Unlearning via Centroid Kinematics",
    authors=("Marco Cotogni", "Jacopo Bonato", "Luigi Sabetta", "Francesco Pelosin", "Alessandro Nicolosi"),
    year=2023,
    arxiv="2312.02052",
    bibtex="""@misc{cotogni2023duck,
  title  = {{DUCK}: Distance-based Unlearning via Centroid Kinematics},
  author = {Cotogni, Marco and Bonato, Jacopo and Sabetta, Luigi and Pelosin, Francesco and Nicolosi, Alessandro},
  year   = {2023},
  eprint = {2312.02052},
  archiveprefix = {arXiv},
}""",
    deviations=(
        "The form for class removal serves requests for classes, the form for homogeneous removal all others.",
        "The accuracy on what is forgotten is that on the forgotten training rows in both forms.",
    ),
)

NOMUS = Paper(
    title="Towards Machine Unlearning Benchmarks: Forgetting the Personal Identities in Facial Recognition Systems",
    authors=("Dasol Choi", "Dongbin Na"),
    year=2023,
    arxiv="2311.02240",
    bibtex="""@misc{choi2023towards,
  title  = {Towards Machine Unlearning Benchmarks: Forgetting the Personal Identities in Facial Recognition Systems},
  author = {Choi, Dasol and Na, Dongbin},
  year   = {2023},
  eprint = {2311.02240},
  archiveprefix = {arXiv},
}""",
    deviations=(
        "The weight of accuracy and forgetting is fixed at one half each, as in the paper's tables.",
        "The unseen rows of the attack are the hold-out, which is matched to the forget set; the larger side is "
        "reduced by a seeded draw.",
        "The splits of the attack's cross-validation come from the measure's seed; the official code fixes it at 0.",
        "Losses whose median is above 100 are scaled down to it, and losses above 1e5 count as 1e5, because the solver "
        "fails silently on huge ones.",
    ),
)

PROBE = Paper(
    title="Understanding intermediate layers using linear classifier probes",
    authors=("Guillaume Alain", "Yoshua Bengio"),
    year=2016,
    arxiv="1610.01644",
    bibtex="""@misc{alain2016understanding,
  title  = {Understanding intermediate layers using linear classifier probes},
  author = {Alain, Guillaume and Bengio, Yoshua},
  year   = {2016},
  eprint = {1610.01644},
  archiveprefix = {arXiv},
}""",
    deviations=(
        "One layer is probed, the last before the output; the paper probes every layer while the network trains.",
        "The probe is trained on retain and forget rows and read on forget rows that it has not seen, which the paper, "
        "not being about unlearning, does not treat.",
    ),
)

CKA = Paper(
    title="Similarity of Neural Network Representations Revisited",
    authors=("Simon Kornblith", "Mohammad Norouzi", "Honglak Lee", "Geoffrey Hinton"),
    year=2019,
    venue="International Conference on Machine Learning (ICML)",
    arxiv="1905.00414",
    bibtex="""@inproceedings{kornblith2019similarity,
  title     = {Similarity of Neural Network Representations Revisited},
  author    = {Kornblith, Simon and Norouzi, Mohammad and Lee, Honglak and Hinton, Geoffrey},
  booktitle = {International Conference on Machine Learning},
  year      = {2019},
  eprint    = {1905.00414},
  archiveprefix = {arXiv},
}""",
)
