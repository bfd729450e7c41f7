import json
import math

import pytest
from conftest import make_spec, one_line
from test_knee import optimizer_of
from test_knee import rates_of as rates_under
from torch.optim import lr_scheduler

from whysgd.study.papers import _scaled_times
from whysgd.study.registry import make
from whysgd.study.spec import RunSpec
from whysgd.training.knee import KneeLRScheduler
from whysgd.training.schedules import learning_rate

PEAK = 0.3


def rates_of(decay, times, *total, peak=PEAK, **settings):
    """The rates of a schedule at these times, of a run of so many steps if its unit is the run."""
    schedule = make("schedule", decay, **settings)
    return [learning_rate(schedule, peak, time, *total) for time in times]


def exactly(rates):
    return pytest.approx(rates, rel=0, abs=1e-12)


# Decays, behind a warmup of geiping2022's released code if there is one: schedule, warmup, length, and torch's scheduler.
RELEASED = {
    "300 steps": ({"decay": "cosine", "horizon": 300}, 5, 300, lambda o: lr_scheduler.CosineAnnealingLR(o, 300)),
    "over 4000": ({"decay": "cosine", "horizon": 4000}, 400, 3000, lambda o: lr_scheduler.CosineAnnealingLR(o, 4000)),
    "no warmup": ({"decay": "cosine", "horizon": 300}, 0, 300, lambda o: lr_scheduler.CosineAnnealingLR(o, 300)),
    "part of a unit": ({"decay": "cosine", "horizon": 30}, 2.5, 30, lambda o: lr_scheduler.CosineAnnealingLR(o, 30)),
    "floored": ({"decay": "cosine", "horizon": 300, "floor": 1 / 25}, 5, 300,
                lambda o: lr_scheduler.CosineAnnealingLR(o, 300, eta_min=0.3 / 25)),
    "linear": ({"decay": "linear", "horizon": 300}, 5, 300, lambda o: lr_scheduler.LinearLR(o, 1, 0, 300)),
    "linear to its end": ({"decay": "linear", "horizon": 40}, 0, 60, lambda o: lr_scheduler.LinearLR(o, 1, 0, 40)),
    "exponential": ({"decay": "exponential", "gamma": 0.99}, 5, 300, lambda o: lr_scheduler.ExponentialLR(o, 0.99)),
    "drops": ({"decay": "step", "milestones": (300 // 2.667 + 6, 300 // 1.6 + 6, 300 // 1.142 + 6)}, 5, 300,
              lambda o: lr_scheduler.MultiStepLR(o, [112, 187, 262], 0.1)),
    "drops within a unit": (
        {"decay": "step", "milestones": (10, 25.5)}, 0, 60, lambda o: lr_scheduler.MultiStepLR(o, [10, 26]),
    ),
    "torch's own": ({"decay": "torch.optim.lr_scheduler:MultiStepLR", "milestones": [112, 187, 262]}, 5, 300,
                    lambda o: lr_scheduler.MultiStepLR(o, [112, 187, 262], 0.1)),
}  # fmt: skip


@pytest.mark.parametrize("unit", ["epoch", "step"])
@pytest.mark.parametrize("case", RELEASED.values(), ids=RELEASED)
def test_each_decay_is_torchs_and_after_a_warmup_the_peak_is_given_twice_as_released(case, unit):
    values, warmup, length, peer = case
    rising = [PEAK * time / warmup for time in range(math.floor(warmup) + 1)] if warmup else []
    expected = rising + run_with(peer, length)[: length - len(rising)]
    assert rates_of(**values, times=range(length), unit=unit, warmup=warmup) == exactly(expected)


def test_an_exponential_decay_of_the_whole_run_multiplies_by_gamma():
    assert rates_of("exponential", [40], 40, unit="run", gamma=0.05) == pytest.approx([0.05 * PEAK])


# What an exponential decay does in all is kept; milestones move, and what they multiply by is left.
@pytest.mark.parametrize(
    ("schedule", "scaled", "length", "scaled_length"),
    [
        ({"decay": "exponential", "gamma": 0.99, "warmup": 10}, {"gamma": pytest.approx(0.99**10), "warmup": 1.0}, {"epochs": 300}, {"epochs": 30}),
        ({"decay": "torch.optim.lr_scheduler:MultiStepLR", "milestones": [100, 200], "gamma": 0.1}, {"milestones": [10.0, 20.0]}, {}, {}),
    ],
    ids=["exponential", "milestones"],
)  # fmt: skip
def test_a_scale_divides_the_times_of_a_schedule(schedule, scaled, length, scaled_length):
    schedule = {"unit": "epoch", **schedule}
    assert _scaled_times({"schedule": schedule, **length}, 10) == {"schedule": {**schedule, **scaled}, **scaled_length}


def test_in_closed_form_the_peak_is_given_once():
    rates = rates_of("cosine", range(47), unit="step", warmup=7, horizon=40, phase="closed")
    expected = run_with(lambda o: lr_scheduler.CosineAnnealingLR(o, 40), 40)
    assert rates == exactly([PEAK * time / 7 for time in range(7)] + expected)
    assert rates_of("cosine", (48, 99), unit="step", warmup=7, horizon=40) == exactly([0, 0])


def test_times_need_not_be_whole():
    rates = rates_of("cosine", (0, 1, 2), peak=1.0, unit="epoch", warmup=1.5, horizon=30.0, phase="closed")
    assert rates == exactly([0, 1 / 1.5, 0.5 * (1 + math.cos(math.pi * 0.5 / 30))])


def run_with(peer, steps):
    """The rates with which an optimizer makes its steps under a scheduler of torch."""
    optimizer = optimizer_of(PEAK)
    return [rate for (rate,) in rates_under(optimizer, peer(optimizer), steps)]


def one_cycle(optimizer, total):
    options = {"three_phase": True, "anneal_strategy": "linear", "cycle_momentum": False}
    return lr_scheduler.OneCycleLR(optimizer, PEAK, total_steps=total, **options)


# A schedule in shares of the run, and torch's own of so many steps.
PEERS = {
    "knee": ({"decay": "knee", "warmup": 0.1, "explore": 0.5},
             lambda o, n: KneeLRScheduler(o, PEAK, round(0.1 * n), round(0.6 * n) - round(0.1 * n), n)),
    "knee without warmup": ({"decay": "knee", "explore": 0.5}, lambda o, n: KneeLRScheduler(o, PEAK, 0, round(0.5 * n), n)),
    "knee that only explores": ({"decay": "knee", "explore": 1}, lambda o, n: KneeLRScheduler(o, PEAK, 0, n, n)),
    "knee that never explores": ({"decay": "knee", "explore": 0}, lambda o, n: KneeLRScheduler(o, PEAK, 0, 0, n)),
    "one-cycle": ({"decay": "one-cycle"}, one_cycle),
    "cosine": ({"decay": "cosine"}, lr_scheduler.CosineAnnealingLR),
    "short cosine": (
        {"decay": "cosine", "horizon": 0.5},  # torch's own rises again behind its horizon
        lambda o, n: lr_scheduler.LambdaLR(o, lambda t: (1 + math.cos(math.pi * min(1, t / max(1, round(0.5 * n))))) / 2),
    ),
    "linear": ({"decay": "linear"}, lambda o, n: lr_scheduler.LinearLR(o, 1, 0, n)),
    "short linear": ({"decay": "linear", "horizon": 0.5}, lambda o, n: lr_scheduler.LinearLR(o, 1, 0, max(1, round(0.5 * n)))),
    "step": ({"decay": "step", "milestones": (0.15, 0.575)},
             lambda o, n: lr_scheduler.MultiStepLR(o, [round(0.15 * n), round(0.575 * n)], 0.1)),
    "step from the first": ({"decay": "step", "milestones": (0, 0.5), "factor": 0.3},
                            lambda o, n: lr_scheduler.MultiStepLR(o, [0, round(0.5 * n)], 0.3)),
    "constant": ({"decay": "constant"}, lambda o, n: lr_scheduler.LambdaLR(o, lambda _: 1.0)),
}  # fmt: skip


@pytest.mark.parametrize("total", [1, 2, 3, 5, 7, 10, 100, 640, 1001])
@pytest.mark.parametrize(("values", "peer"), PEERS.values(), ids=PEERS.keys())
def test_in_shares_of_the_run_each_decay_is_torchs_at_every_step(values, peer, total):
    values = {"unit": "run", "warmup": 0} | values
    rates = rates_of(values.pop("decay"), range(total), total, **values)
    assert rates == exactly(run_with(lambda optimizer: peer(optimizer, total), total))


@pytest.mark.parametrize("decay", ["cosine", "linear"])
def test_with_a_warmup_the_rest_of_the_run_is_the_horizon(decay):
    rates = rates_of(decay, range(40), 40, unit="run", warmup=0.25, phase="closed")
    assert rates[:10] == pytest.approx([PEAK * step / 10 for step in range(10)])
    assert rates[10:] == exactly(rates_of(decay, range(30), unit="step", warmup=0, horizon=30))


def test_warmup_and_explore_never_round_to_more_than_the_run():
    for total in range(1, 50):
        rates = rates_of("knee", range(total), total, peak=1.0, unit="run", warmup=0.3, explore=0.7)
        assert rates[-1] == 1.0
        assert max(rates) == 1.0


RUN = {"unit": "run", "warmup": 0}
KNEE, STEP = {**RUN, "decay": "knee", "explore": 0.5}, {**RUN, "decay": "step", "milestones": [0.5]}
WRONG = {
    "decay": ({**RUN, "decay": "sudden"}, "schedule.decay = 'sudden': allowed: constant, cosine, exponential, knee, linear, one-cycle, step, or a dotted path"),
    "knee in epochs": ({**KNEE, "unit": "epoch"}, "schedule.unit = 'epoch': knee allows: run"),
    "one-cycle in steps": ({**RUN, "unit": "step", "decay": "one-cycle"}, "schedule.unit = 'step': one-cycle allows: run"),
    "long warmup": ({**RUN, "warmup": 2, "decay": "cosine"}, "schedule.warmup = 2.0: must be at most 1, the run"),
    "long explore": ({**KNEE, "explore": 1.5}, "schedule.explore = 1.5: must be at most 1"),
    "no horizon": ({**RUN, "decay": "linear", "horizon": 0}, "schedule.horizon = 0: must be above 0"),
    "factor of nothing": ({**STEP, "factor": 0}, "schedule.factor = 0: must be above 0"),
    "unit": ({"unit": "week", "warmup": 0, "decay": "constant"}, "schedule.unit = 'week': allowed: epoch, step, run"),
    "both too long": ({**KNEE, "warmup": 0.6}, "schedule.explore = 0.5: warmup and explore must be at most 1, the run, together"),
    "cosine without horizon": ({"unit": "epoch", "warmup": 0, "decay": "cosine"}, "schedule.horizon: cosine in units of epoch needs it"),
    "horizon of knee": ({**KNEE, "horizon": 1}, "schedule.horizon: unknown key; allowed here: decay, explore"),
    "warmup of one-cycle": ({**RUN, "warmup": 0.1, "decay": "one-cycle"}, "schedule.warmup = 0.1: must be 0, one-cycle has its own"),
    "no milestones": ({**STEP, "milestones": []}, r"schedule.milestones = \[\]: must have at least 1"),
    "falling milestones": ({**STEP, "milestones": [0.5, 0.2]}, r"schedule.milestones = \[0.5, 0.2\]: must rise"),
    "equal milestones": ({**STEP, "milestones": [0.5, 0.5]}, "must rise, from the end of the warmup on and at most 1, the run"),
    "milestones behind the run": ({**STEP, "milestones": [0.5, 1.5]}, "and at most 1, the run"),
    "milestones in the warmup": ({**STEP, "unit": "step", "warmup": 9, "milestones": [5, 10]}, "from the end of the warmup on"),
    "one milestone": ({**STEP, "milestones": 0.5}, "schedule.milestones = 0.5: must be a list"),
}  # fmt: skip


@pytest.mark.parametrize(("values", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_schedule_that_cannot_be_is_one_line(values, message):
    with one_line(message, ValueError):
        RunSpec.from_dict({**make_spec().to_dict(), "schedule": values})


def test_milestones_survive_json():
    spec = make_spec(schedule=make("schedule", "step", unit="run", warmup=0, milestones=(0, 0.5)))
    assert RunSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
