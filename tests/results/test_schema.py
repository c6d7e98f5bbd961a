import pyarrow as pa
import pytest

from results.schema import (
    BASELINES,
    CERTIFICATES,
    CONFIRMATION,
    ORIGINS,
    VARIANTS,
    accuracy_column,
    classes_schema,
    summary_schema,
    trials_schema,
    variant_label,
    variant_place,
    wrong_column,
)

TRIALS = trials_schema({"learning_rate": pa.float64(), "mix": pa.string()})


@pytest.mark.parametrize(
    "schema",
    [TRIALS, CERTIFICATES, CONFIRMATION, BASELINES, summary_schema(), classes_schema([0.1])],
)
def test_every_column_has_a_unit_and_a_description(schema: pa.Schema) -> None:
    assert schema.metadata == {b"schema_version": b"3"}
    for field in schema:
        assert set(field.metadata) == {b"unit", b"description"}
        assert all(field.metadata.values()), field.name


def test_certificates_have_the_promised_columns_and_types() -> None:
    assert [(field.name, str(field.type)) for field in CERTIFICATES] == [
        ("variant", "string"),
        ("image_index", "int32"),
        ("label", "int16"),
        ("predicted", "int16"),
        ("radius", "double"),
        ("votes_top", "int64"),
        ("n", "int64"),
        ("n0", "int64"),
        ("p_lower", "double"),
        ("sigma", "double"),
        ("alpha", "double"),
        ("seconds", "double"),
        ("procedure", "string"),
        ("votes", "int64"),
        ("votes_selected", "int64"),
        ("votes_selected_runner_up", "int64"),
        ("runner_up", "int16"),
        ("votes_runner_up", "int64"),
        ("p_upper", "double"),
        ("joint_radius", "double"),
        ("precision", "string"),
        ("device", "string"),
    ]


def test_hyperparameters_stand_between_state_and_objective_in_their_order() -> None:
    names = TRIALS.names
    assert names[:6] == ["number", "root", "origin", "state", "learning_rate", "mix"]
    after = [
        "objective",
        "accuracy",
        "epochs",
        "steps",
        "seconds",
        "seed",
        "node",
        "error",
        "restarts",
    ]
    assert names[6:] == after


def test_a_hyperparameter_named_like_a_fixed_column_is_refused() -> None:
    with pytest.raises(ValueError, match="epochs"):
        trials_schema({"epochs": pa.int32()})


def test_the_summary_has_the_promised_columns_whatever_radii_are_named() -> None:
    promised = [f"certified_accuracy_{at}" for at in ("0", "0_25", "0_5", "0_75", "1_0")]
    assert set(promised) <= set(summary_schema(()).names) <= set(summary_schema((0.1,)).names)
    schema = summary_schema((0.1, 2))
    for at in (0.0, 0.25, 0.1, 1, 2):
        assert {accuracy_column(at), wrong_column(at)} <= set(schema.names)
    assert accuracy_column(2) == "certified_accuracy_2_0"
    # Of a setting that does not name it.
    assert [schema.field(accuracy_column(at)).nullable for at in (0.25, 0.1)] == [False, True]


def test_there_are_four_variants() -> None:
    assert set(VARIANTS) == {"none", "label_consistency", "published", "best"}


def test_what_is_certified_has_its_place_in_tables() -> None:
    shuffled = ["front-10", "best", "published_best_sigma", "front-2", "none", "front-1"]
    assert sorted([*shuffled, "label_consistency", "published"], key=variant_place) == [
        *("none", "label_consistency", "published", "published_best_sigma", "best"),
        *("front-1", "front-2", "front-10"),
    ]
    with pytest.raises(ValueError, match="unheard"):
        variant_place("unheard-of")


def test_a_label_says_where_the_best_comes_from() -> None:
    labels = {origin: variant_label("best", origin) for origin in ORIGINS}
    assert labels["search"] == "DE-CROP, tuned"
    assert labels["start"] == "DE-CROP, start"
    for baseline in ("published", "published_sigma", "label_consistency", "mse"):
        assert labels[baseline].startswith("Best: ")
    # That of published at a different sigma is the same.
    assert len(set(labels.values())) == len(ORIGINS) - 1
    assert variant_label("front-2", "label_consistency") == "Front 2: smoothing"
    assert variant_label("published_best_sigma", "published") == "Published, best sigma"
