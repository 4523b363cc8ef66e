"""What gentle ascent promises, on real data: a run of the host for each promise."""

import pytest

import unlearnbench

SCENARIO = "digits-cnn-class3/v1"


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """One store for all runs, so that the original and the gold model are trained once."""
    root = tmp_path_factory.mktemp("runs")
    return {"out": root, "store": root / "store"}


def gentle(folders, **parameters):
    settings = {f"gentle.{name}": value for name, value in parameters.items()}
    (record,) = unlearnbench.run("gentle", scenario=SCENARIO, parameters=settings, **folders)
    assert record.status == "complete"
    return record


def test_it_forgets_the_class_and_keeps_the_rest(folders):
    record = gentle(folders)
    assert record.value("accuracy.forget", "original") > 0.9
    assert record.value("accuracy.forget") < 0.1
    assert record.value("accuracy.test") > record.value("accuracy.test", "gold") - 0.04


def test_without_epochs_it_leaves_the_model_as_it_was(folders):
    record = gentle(folders, epochs=0, repair_epochs=0)
    models = record.document["models"]
    assert models["unlearned"][0]["sha256"] == models["original"][0]["sha256"]


def test_the_stop_rule_ends_the_ascent_early(folders):
    longest = 20 * -(-146 // 32)  # epochs x batches of 146 forget rows
    costs = gentle(folders, repair_epochs=0).document["costs"]["unlearn"]["rows_read"]
    assert 0 < costs["forget"] < longest * 32 / 4
    assert "retain" not in costs


def test_a_smaller_height_stops_sooner(folders):
    rows = [gentle(folders, height=h).document["costs"]["unlearn"]["rows_read"]["forget"] for h in (0.01, 1.0)]
    assert rows[0] < rows[1]


def test_the_same_seed_gives_the_same_bits(folders, tmp_path):
    again = gentle({"out": tmp_path, "store": tmp_path / "store"})
    assert again.document["digest"] == gentle(folders).document["digest"]
