from rich.console import Console

from results.curves import summary_row
from results.terminal import summary_table
from tests.results.invented import certificate_rows


def printed(rows, **options):
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(summary_table(rows, **options))
    return console.export_text()


def row(setting="digits-10shot", variant="best", tuning=0.29):
    return summary_row(setting, variant, 9, tuning, certificate_rows(variant))


def test_the_table_shows_what_a_variant_certifies():
    text, best = printed([row()]), row()
    assert "DE-CROP, tuned" in text
    assert f"{best['acr']:.3f} [{best['acr_low']:.3f}, {best['acr_high']:.3f}]" in text
    assert "ACR tuning" in text
    assert "0.290" in text
    assert f"{best['certified_accuracy_0_5']:.1%}" in text


def test_settings_are_named_when_there_are_several():
    assert "digits-10shot" not in printed([row(), row(variant="none")])
    text = printed([row(), row("digits-5shot")])
    assert "digits-10shot" in text
    assert "digits-5shot" in text


def test_brackets_in_names_are_not_markup():
    assert "[red]x" in printed([row("[red]x"), row("y")])


def test_a_missing_tuning_score_is_left_empty():
    assert "None" not in printed([row(tuning=None)])


def test_the_tuning_column_is_named_after_the_objective():
    assert "certified-accuracy@0.5 tuning" in printed([row()], objective="certified-accuracy@0.5")
