import pyarrow as pa
import pytest

from results.schema import (
    BASELINES,
    CERTIFICATES,
    CERTIFIED_AT,
    CONFIRMATION,
    SUMMARY,
    VARIANTS,
    trials_schema,
    variant_label,
    variant_place,
)

TRIALS = trials_schema({"learning_rate": pa.float64(), "mix": pa.string()})


@pytest.mark.parametrize("schema", [TRIALS, CERTIFICATES, CONFIRMATION, BASELINES, SUMMARY])
def test_every_column_has_a_unit_and_a_description(schema: pa.Schema) -> None:
    assert schema.metadata == {b"schema_version": b"1"}
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


def test_the_summary_has_a_column_for_every_radius() -> None:
    assert set(CERTIFIED_AT) <= set(SUMMARY.names)
    assert list(CERTIFIED_AT.values()) == [0, 0.25, 0.5, 0.75, 1]


def test_there_are_four_variants() -> None:
    assert set(VARIANTS) == {"none", "label_consistency", "published", "best"}


def test_what_is_certified_has_its_place_in_tables() -> None:
    shuffled = ["front-10", "best", "published_best_sigma", "front-2", "none", "front-1"]
    assert sorted([*shuffled, "label_consistency", "published"], key=variant_place) == [
        *("none", "label_consistency", "published", "published_best_sigma", "best"),
        *("front-1", "front-2", "front-10"),
    ]
    assert variant_label("published_best_sigma") == "Published, best sigma"
    with pytest.raises(ValueError, match="unheard"):
        variant_place("unheard-of")
