"The load model against what is known exactly, against the simulation, and the simulation against Pollaczek and Khinchine; and prices."
import json, math

import numpy as np, pytest
from hypothesis import example, given, settings, strategies as st

from petlost.capacity import Fleet, LoadModel, Policy, busiest, erlang_c, instances_for, play, spike
from petlost.cost import Measured, dollars_a_core_second, month, read_prices
from running import petlost

models = st.builds(lambda alone, more, cv2, servers: LoadModel(alone, alone * more, cv2, servers), st.floats(.005, .2), st.floats(1, 1.8), st.floats(0, .5), st.integers(1, 16))


@pytest.mark.parametrize('servers, busy, chance', [(1, .8, .8), (2, .5, 1 / 3), (2, .8, .7111), (5, .8, .5541), (10, .9, .6687)])
def test_erlang_c_is_what_the_tables_say(servers, busy, chance): assert erlang_c(servers, busy) == pytest.approx(chance, abs=1e-4)


@settings(deadline=None, max_examples=40)
@given(models, st.floats(.01, .97), st.floats(.01, .97))
def test_who_asks_for_more_waits_longer(model, a, b):
    low, high = sorted((a, b))
    assert model.quantile(low * model.capacity) <= model.quantile(high * model.capacity) + 1e-6
    assert model.quantile(low * model.capacity, .5) <= model.quantile(low * model.capacity, .99)
    assert model.quantile(model.capacity) == math.inf


@settings(deadline=None, max_examples=40)
@given(models, st.floats(.1, 500))
@example(LoadModel(.2, .2, 0, 1), 434.) # most of them idle
def test_instances_are_enough_and_not_one_too_many(model, rate):
    limit = 1.5 * model.quantile(0)
    n = instances_for(model, rate, limit)
    assert model.quantile(rate / n) <= limit and (n == 1 or model.quantile(rate / (n - 1)) > limit)
    assert rate / n <= busiest(model, limit) * (1 + 1e-6)


@pytest.mark.parametrize('busy', [.5, .8])
def test_the_simulation_waits_as_pollaczek_and_khinchine_say(busy):
    model = LoadModel(.1, .1, .25, 1)
    played = play(np.full(240, busy * 10), model, Policy(1e9, queue=10**9), 1)
    assert np.mean(played.seconds) - .1 == pytest.approx(busy / (1 - busy) * .1 * (1 + .25) / 2, rel=.12)


@pytest.mark.parametrize('servers, busy', [(2, .4), (4, .7), (8, .8)])
def test_the_formula_is_near_the_simulation_and_not_below_it(servers, busy):
    model = LoadModel(.1, .13, .15, servers)
    played = play(np.full(120, busy * model.capacity), model, Policy(1e9), 1)
    assert .95 <= model.quantile(busy * model.capacity) / np.nanquantile(played.seconds, .99) < 1.25


def test_the_same_seed_plays_the_same_day_and_nobody_is_lost():
    model, policy, rates = LoadModel(.1, .1, .1, 2), Policy(600), np.r_[np.full(20, 5.), np.full(20, 60.), np.full(40, 5.)]
    one, two = play(rates, model, policy), play(rates, model, policy)
    assert np.array_equal(one.seconds, two.seconds, equal_nan=True) and len(one.seconds) == len(one.arrived) == len(play(rates, model, policy).arrived)
    assert (np.diff(one.arrived) >= 0).all() and np.nanmin(one.seconds) > 0 and one.refused > 0


def test_instances_come_after_the_reaction_and_go_again():
    model, policy = LoadModel(.1, .1, .1, 2), Policy(600, least=2, most=9, starting=240)
    played = play(np.r_[np.full(30, 5.), np.full(60, 100.), np.full(60, 5.)], model, policy)
    new = 30 + math.ceil(policy.reaction / 60)
    assert set(played.instances[:new - 1]) == {2} and played.instances[new] == 9 == played.instances.max()
    assert played.instances[-1] == 2 and (played.hired >= played.instances).all()
    assert played.hired[30 + policy.up_after + policy.late] == 9  # paid from the decision on


def test_a_full_queue_refuses():
    fleet = Fleet(LoadModel(1., 1., 0., 1), Policy(60, queue=2), 1)
    answers = [fleet.ask(0., 1., 0) for _ in range(5)]
    assert answers[:3] == [1, 2, 3] and all(map(math.isnan, answers[3:]))


@settings(deadline=None, max_examples=40)
@given(st.floats(.5, 50), st.floats(2, 30), st.floats(0, 600))
def test_scaling_as_fast_as_allowed_loses_no_more_than_allowed(rate, factor, starting):
    model = LoadModel(.1, .12, .1, 4)
    policy = Policy(target=60 * .8 * busiest(model), most=10**6, starting=starting)
    found = spike(model, policy, rate, factor)
    assert (found.share > .01 + 1e-9) == (found.reaction > found.allowed + 1e-6)
    assert found.standing >= found.before and (found.share <= .01 or found.standing > found.before)


def test_a_load_test_goes_through_json():
    facts = dict(cores=2, alone=[.1, .11, .09, .12] * 5, clients={1: dict(per_second=9), 2: dict(per_second=16), 8: dict(per_second=18)})
    model = LoadModel.fit(json.loads(json.dumps(facts)))
    assert (model, model.gain, model.capacity) == (LoadModel.fit(facts), 18 / 16, 18)
    for broken in (dict(facts, alone=[]), dict(facts, clients={}), dict(facts, clients=3), {}):
        with pytest.raises(ValueError, match='load test'): LoadModel.fit(broken)


@settings(deadline=None, max_examples=30)
@given(st.floats(1e-3, 5), st.floats(1, 1e6), st.floats(1, 100))
def test_more_searches_never_cost_less(seconds, searches, more):
    way = Measured('x', seconds)
    for price in read_prices(): assert 0 <= month(way, price, searches) <= month(way, price, searches * more) * (1 + 1e-9)


def test_an_instance_wins_when_there_is_work_and_nothing_runs_for_nothing():
    instance, serverless = (next(p for p in read_prices() if p.kind == kind) for kind in ('instance', 'serverless'))
    way = Measured('x', .3)
    assert month(way, serverless, 0) == 0 < month(way, instance, 0) == month(way, instance, 1)
    assert dollars_a_core_second(instance, .9) < dollars_a_core_second(instance, .1)
    assert month(way, instance, 10**7) < month(way, serverless, 10**7)


@pytest.mark.parametrize('text', ['', 'name,kind\n', 'name,kind,cores,memory_gb,dollars,unit,speed,date,source\nx,instance,2,4,free,hour,1,2026-01-01,me\n',
                                  'name,kind,cores,memory_gb,dollars,unit,speed,date,source\nx,instance,2,4,0.1,hour,nan,2026-01-01,me\n'])
def test_a_price_table_that_cannot_be_used_is_named(tmp_path, text):
    (tmp_path / 'prices.csv').write_text(text)
    with pytest.raises(ValueError, match='prices.csv'): read_prices(tmp_path / 'prices.csv')


def test_the_command_answers_from_three_numbers():
    done = petlost('capacity', '--rate', 40, '--seconds', .1, '--cores', 4)
    assert done.returncode == 0 and done.stdout.splitlines()[1].startswith('40 searches a second: 2 instances')
    assert petlost('capacity', '--rate', 40, '--seconds', 2).stderr.startswith('petlost: even alone')
