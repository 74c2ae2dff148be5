"Groups of pets: how often something is named where nothing is to be found, and whether what is planted is found."
import numpy as np
import pytest
from petlost.embed import unit
from petlost.fairness import fairness

def made_up(seed: int, weak: float=1., pets: int=80):
    "Vectors of pets that are hard for reasons of their own, in two sources of which one is harder, photos with words that hang together; black coats are `weak` times as noisy, and mostly in the hard source."
    rng = np.random.default_rng(seed)
    photos = rng.integers(2, 8, pets); pet = np.repeat(np.arange(pets), photos)
    hard = np.arange(pets) % 2
    coat = np.where(rng.random(pets) < np.where(hard, .5, .2), 'black', rng.choice(['white', 'brown', 'ginger'], pets))
    usual = rng.choice(['dark', 'normal', 'bright'], pets)
    light = np.where(rng.random(len(pet)) < .6, usual[pet], rng.choice(['dark', 'normal', 'bright'], len(pet)))
    size = [None if rng.random() < .2 else str(w) for w in rng.choice(['small', 'large'], len(pet))]
    noise = (.6 + .5 * hard + rng.gamma(2, .15, pets))[pet] * np.where(coat[pet] == 'black', weak, 1)
    vectors = unit(unit(rng.normal(size=(pets, 24)))[pet] * 4 + noise[:, None] * rng.normal(size=(len(pet), 24)))
    scenes = np.concatenate([np.arange(n) for n in photos])
    return vectors, pet.tolist(), np.array(['easy', 'hard'])[hard][pet].tolist(), scenes.tolist(), dict(coat=coat[pet].tolist(), light=light.tolist(), size=size)

def named(facts, **how): return [g.name for g in fairness(*facts, n_boot=20, **how) if g.verdict in ('worse', 'better')]

def test_nothing_is_named_more_often_than_stated():
    "Black coats are in the hard source, so a comparison across sources would name them nearly always. Of 200 runs five in a hundred may name something: 20 or more would come once in 300 times."
    runs = [named(made_up(seed), plays=99) for seed in range(200)]
    print(f'{sum(map(bool, runs))} of {len(runs)} runs name a group')
    assert sum(map(bool, runs)) <= 19

def test_without_sources_the_hard_source_is_taken_for_a_bad_coat():
    vectors, pets, _, scenes, words = made_up(1, pets=400)
    assert 'coat: black' in named((vectors, pets, None, scenes, words), plays=200)
    assert 'coat: black' not in named(made_up(1, pets=400), plays=200)

@pytest.mark.parametrize('seed', range(3))
def test_a_weak_coat_is_named(seed):
    assert 'coat: black' in named(made_up(seed, weak=1.6, pets=300), plays=200)
