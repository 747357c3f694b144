"""The choice of what is inside: what it accepts, how it is stored, and that earlier documents keep their meaning."""

from __future__ import annotations

import json

import pytest

from sdfnet.solids.rule import SolidRule

RULES = [
    SolidRule(),
    SolidRule(thickness=0.1),
    SolidRule("winding"),
    SolidRule("winding", thickness=0.3),
    SolidRule("outer"),
    SolidRule("outer", gap=0.3),
]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_rule_survives_json(rule: SolidRule) -> None:
    assert SolidRule.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule


def test_the_plain_rules_add_nothing_to_a_hash_and_the_others_differ() -> None:
    texts = [rule.hash_text for rule in RULES]
    assert texts[0] == texts[2] == ""
    assert len(set(texts)) == len(texts) - 1


def test_a_document_of_the_first_version_means_winding_with_half_walls() -> None:
    assert SolidRule.from_dict({"thickness": None}) == SolidRule("winding")
    rule = SolidRule.from_dict({"thickness": 0.05})
    assert rule == SolidRule("winding", thickness=0.1)
    assert rule.hash_text == "thickness=0.05"  # as that version hashed it
    assert SolidRule(thickness=0.05).repeats(rule)
    assert SolidRule().repeats(SolidRule("winding"))
    assert not SolidRule("outer").repeats(SolidRule("winding"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solid": "inner"}, "solid must be one of auto, winding, outer, got 'inner'"),
        ({"thickness": 0.0}, "thickness must be above 0 or null, got 0.0"),
        ({"thickness": float("nan")}, "thickness must be above 0 or null, got nan"),
        ({"solid": "outer", "gap": -1}, "gap must be above 0 or null, got -1"),
        ({"gap": 0.5}, "gap=0.5 has an effect only with solid=outer, got solid=auto"),
        ({"solid": "outer", "thickness": 0.5}, "thickness=0.5 has no effect with solid=outer"),
    ],
)
def test_nonsense_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SolidRule(**options)  # type: ignore[arg-type]


def test_given_values_replace_those_of_a_run() -> None:
    learned = SolidRule("winding", thickness=0.2)
    assert learned.with_given(solid=None, thickness=None, gap=None) == learned
    assert learned.with_given(solid=None, thickness=0.4, gap=None) == SolidRule("winding", thickness=0.4)
    assert learned.with_given(solid="auto", thickness=None, gap=None) == SolidRule()
    with pytest.raises(ValueError, match="gap=1 has an effect only with solid=outer"):
        learned.with_given(solid=None, thickness=None, gap=1.0)
