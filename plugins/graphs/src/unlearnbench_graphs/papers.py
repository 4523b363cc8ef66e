"""Where the measures come from, and in what ours differ. Imports neither torch nor numpy."""

from __future__ import annotations

from unlearnbench.api import Paper

LINKS = Paper(
    title="Stealing Links from Graph Neural Networks",
    authors=("Xinlei He", "Jinyuan Jia", "Michael Backes", "Neil Zhenqiang Gong", "Yang Zhang"),
    year=2021,
    venue="USENIX Security Symposium",
    arxiv="2005.02131",
    bibtex="""@inproceedings{he2021stealing,
  title     = {Stealing Links from Graph Neural Networks},
  author    = {He, Xinlei and Jia, Jinyuan and Backes, Michael and Gong, Neil Zhenqiang and Zhang, Yang},
  booktitle = {30th USENIX Security Symposium (USENIX Security 21)},
  year      = {2021},
  eprint    = {2005.02131},
  archiveprefix = {arXiv},
}""",
    deviations=(
        "Only the first attack (Attack-0: posteriors alone) with one of its eight distances, the cosine.",
        "The paper attacks edges that the model is still trained with; here they were removed, and the attacker asks "
        "about the graph without them.",
    ),
)
LOSS = Paper(
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
  year      = {2018},
  doi       = {10.1109/CSF.2018.00027},
}""",
    deviations=(
        "The rows are nodes of one graph, and the loss is that of the graph after the request.",
        "No threshold on the loss is chosen: the area under the curve is that of all thresholds.",
    ),
)
ACTIVATIONS = Paper(
    title="Mixed-Privacy Forgetting in Deep Networks",
    authors=("Aditya Golatkar", "Alessandro Achille", "Avinash Ravichandran", "Marzia Polito", "Stefano Soatto"),
    year=2021,
    venue="CVPR",
    arxiv="2012.13431",
    bibtex="""@inproceedings{golatkar2021mixed,
  title     = {Mixed-Privacy Forgetting in Deep Networks},
  author    = {Golatkar, Aditya and Achille, Alessandro and Ravichandran, Avinash and Polito, Marzia and
               Soatto, Stefano},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2021},
  eprint    = {2012.13431},
  archiveprefix = {arXiv},
}""",
    deviations=(
        "The paper's activation distance is that of the final outputs for rows of a set; ours is that of what the last "
        "layer sees, over all nodes of the graph and relative to the norm of the retrained model's.",
    ),
)
