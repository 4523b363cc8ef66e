"""Where the attacks come from, and every sentence in which ours differ. Imports neither torch nor numpy."""

from __future__ import annotations

from unlearnbench.api import Paper

SONG_MITTAL = Paper(
    title="Systematic Evaluation of Privacy Risks of Machine Learning Models",
    authors=("Liwei Song", "Prateek Mittal"),
    year=2021,
    venue="USENIX Security Symposium",
    arxiv="2003.10595",
    bibtex="""@inproceedings{song2021systematic,
  title     = {Systematic Evaluation of Privacy Risks of Machine Learning Models},
  author    = {Song, Liwei and Mittal, Prateek},
  booktitle = {30th USENIX Security Symposium (USENIX Security 21)},
  pages     = {2615--2632},
  year      = {2021},
}""",
    deviations=(
        "Thresholds and classifiers are fitted on the subject's own retain and test rows, as SalUn's evaluation does; "
        "the paper fits them on a shadow model.",
        "Of equally good thresholds the lowest is taken; the authors' code takes the first in the order of the rows.",
        "A class without retain rows or without test rows (a forgotten class) has the threshold of all rows.",
        "The attack on the whole probability vector is SalUn's support vector classifier (C 3, RBF, gamma auto), not a "
        "network; attack=svc puts it on the other four as well. It is trained on as many retain rows as test rows, "
        "both drawn, at most 2,000 of each by default.",
        "SalUn's code takes ln p for ln(1 - p) in the modified entropy and mixes up rows; ours is the paper's formula.",
    ),
)

STARTING_KIT = Paper(
    title="NeurIPS 2023 - Machine Unlearning",
    authors=(
        "Eleni Triantafillou",
        "Fabian Pedregosa",
        "Jamie Hayes",
        "Peter Kairouz",
        "Isabelle Guyon",
        "Meghdad Kurmanji",
        "Gintare Karolina Dziugaite",
        "Peter Triantafillou",
        "Kairan Zhao",
        "Lisheng Sun Hosoya",
        "Julio C. S. Jacques Junior",
        "Vincent Dumoulin",
        "Ioannis Mitliagkas",
        "Sergio Escalera",
        "Jun Wan",
        "Sohier Dane",
        "Maggie Demkin",
        "Walter Reade",
    ),
    year=2023,
    venue="Kaggle competition, starting kit",
    bibtex="""@misc{triantafillou2023neurips,
  title     = {{NeurIPS} 2023 - Machine Unlearning},
  author    = {Triantafillou, Eleni and Pedregosa, Fabian and Hayes, Jamie and Kairouz, Peter and Guyon, Isabelle and
               Kurmanji, Meghdad and Dziugaite, Gintare Karolina and Triantafillou, Peter and Zhao, Kairan and
               Sun Hosoya, Lisheng and Jacques Junior, Julio C. S. and Dumoulin, Vincent and Mitliagkas, Ioannis and
               Escalera, Sergio and Wan, Jun and Dane, Sohier and Demkin, Maggie and Reade, Walter},
  publisher = {Kaggle},
  year      = {2023},
  url       = {https://kaggle.com/competitions/neurips-2023-machine-unlearning},
}""",
    deviations=(
        "The unseen rows are the hold-out: rows like the forget set, with the same noise in their labels; the kit "
        "takes rows of the test set.",
        "Which rows make the two sides equally large is drawn by id; the kit shuffles the losses without a seed.",
        "Losses are cut off at a million, so that the regression of a destroyed model has a solution.",
        "The area under the curve and the true positive rates are ours.",
    ),
)

ERASURE = Paper(
    title="ERASURE: A Modular and Extensible Framework for Machine Unlearning",
    authors=(
        "Andrea D'Angelo",
        "Claudio Savelli",
        "Gabriele Tagliente",
        "Flavio Giobergia",
        "Elena Baralis",
        "Giovanni Stilo",
    ),
    year=2025,
    venue="CIKM",
    doi="10.1145/3746252.3761627",
    bibtex="""@inproceedings{dangelo2025erasure,
  title     = {{ERASURE}: A Modular and Extensible Framework for Machine Unlearning},
  author    = {D'Angelo, Andrea and Savelli, Claudio and Tagliente, Gabriele and Giobergia, Flavio and Baralis, Elena
               and Stilo, Giovanni},
  booktitle = {Proceedings of the 34th ACM International Conference on Information and Knowledge Management},
  year      = {2025},
  doi       = {10.1145/3746252.3761627},
}""",
    deviations=(
        "Every draw has a seed and the model is in evaluation mode; the framework's code seeds neither the splits nor "
        "the order of rows and takes the mode in which the method left the model.",
        "Where one side has more rows, those that take part are drawn; the framework takes the first.",
        "Losses are cut off at a million, so that the regression of a destroyed model has a solution.",
        "The area under the curve and the true positive rates are ours.",
    ),
)

YEOM = Paper(
    title="Privacy Risk in Machine Learning: Analyzing the Connection to Overfitting",
    authors=("Samuel Yeom", "Irene Giacomelli", "Matt Fredrikson", "Somesh Jha"),
    year=2018,
    venue="IEEE Computer Security Foundations Symposium (CSF)",
    doi="10.1109/CSF.2018.00027",
    arxiv="1709.01604",
    bibtex="""@inproceedings{yeom2018privacy,
  title     = {Privacy Risk in Machine Learning: Analyzing the Connection to Overfitting},
  author    = {Yeom, Samuel and Giacomelli, Irene and Fredrikson, Matt and Jha, Somesh},
  booktitle = {2018 IEEE 31st Computer Security Foundations Symposium (CSF)},
  pages     = {268--282},
  year      = {2018},
  doi       = {10.1109/CSF.2018.00027},
}""",
    deviations=(
        "The threshold on the loss is the mean loss on the retain set, because the forget set's own membership is the "
        "question; the paper's adversary knows how the loss is distributed.",
    ),
)

SHOKRI = Paper(
    title="Membership Inference Attacks Against Machine Learning Models",
    authors=("Reza Shokri", "Marco Stronati", "Congzheng Song", "Vitaly Shmatikov"),
    year=2017,
    venue="IEEE Symposium on Security and Privacy",
    doi="10.1109/SP.2017.41",
    arxiv="1610.05820",
    bibtex="""@inproceedings{shokri2017membership,
  title     = {Membership Inference Attacks Against Machine Learning Models},
  author    = {Shokri, Reza and Stronati, Marco and Song, Congzheng and Shmatikov, Vitaly},
  booktitle = {2017 IEEE Symposium on Security and Privacy (SP)},
  pages     = {3--18},
  year      = {2017},
  doi       = {10.1109/SP.2017.41},
}""",
    deviations=(
        "The shadows are trained on the retain set and one half each of the audit rows, and the networks learn from "
        "the audit rows, which are the rows under attack; the paper's shadows are trained on data of their own.",
        "A class with too few rows is attacked by one network for all such classes, trained on the rows of all "
        "classes, that sees the true class's probability first and the others in descending order.",
        "The networks (64 hidden units) take 200 steps of AdamW on all of their rows; the paper does not state this "
        "training.",
    ),
)
