"""The verdict of the loaders' benchmark, from made-up rates."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pipelines.verdict import SHARED, Option, Rates, in_bytes, judge

SLOW = Rates(needs=9400, has=6100, cores=8)


def test_a_slow_loader_is_told_by_how_much_and_what_would_help() -> None:
    options = (Option("--loader ffcv", 6200), Option("--loader dali", 9900), Option("the raw view", None, 31 * 10**9))
    verdict = judge(replace(SLOW, options=options))
    assert verdict.bound == "loader"
    assert verdict.line == (
        "LOADER-BOUND: needs 9,400 img/s, has 6,100 on 8 cores: "
        "+5 cores, --loader dali (9,900 img/s), or the raw view (+31 GB)"
    )


def test_a_fast_loader_is_told_how_few_cores_would_do() -> None:
    assert judge(Rates(1000, 2300, 2)).line == (
        "TRAINER-BOUND: the loader has 2.3 times what the trainer eats, with 2 cores; 1 would do"
    )
    assert judge(Rates(1000, 1700, 2)).line.endswith("with 2 cores")
    assert judge(Rates(1000, 1700, 1)).line.endswith("with 1 core")


def test_loader_and_trainer_that_fight_for_cores_are_not_called_fast() -> None:
    rates = Rates(1000, 2300, 2, both=610)
    assert judge(rates).bound == "cores"
    assert judge(rates).line == (
        "CORE-BOUND: alone the loader has 2.3 times what the trainer eats, "
        "but together they reach 61% of it on the same 2 cores: +1 core"
    )
    assert judge(replace(rates, both=1000 * SHARED)).bound == "trainer"


def test_an_option_that_is_enough_comes_before_one_that_is_not() -> None:
    little, enough, more = Option("little", 7000), Option("better", 8000), Option("enough", 9400)
    assert "better" in judge(replace(SLOW, options=(enough,))).line
    assert judge(replace(SLOW, options=(little, more, enough))).line.endswith("+5 cores, or enough (9,400 img/s)")
    assert judge(replace(SLOW, options=(little,))).line.endswith(": +5 cores")


@given(
    needs=st.floats(1, 1e7),
    has=st.floats(1, 1e7),
    cores=st.integers(1, 256),
    both=st.none() | st.floats(1, 1e7),
)
def test_the_verdict_follows_the_rates(needs: float, has: float, cores: int, both: float | None) -> None:
    verdict = judge(Rates(needs, has, cores, both))
    assert (verdict.bound == "loader") == (has < needs)
    assert verdict.line.startswith(f"{'CORE' if verdict.bound == 'cores' else verdict.bound.upper()}-BOUND: ")
    if verdict.bound == "loader":
        more = int(verdict.line.rpartition("+")[2].split()[0].replace(",", ""))
        assert has / cores * (cores + more) >= needs * (1 - 1e-6)
        assert has / cores * (cores + more - 1) < needs * (1 + 1e-6)


def test_sizes_are_told_in_the_unit_that_fits() -> None:
    assert [in_bytes(count) for count in (7, 4_200, 42_000_000, 31e9, 4e12)] == (
        ["7 bytes", "4.2 kB", "42 MB", "31 GB", "4,000 GB"]
    )
