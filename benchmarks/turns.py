"Contestants on one machine take turns, so that whatever else it does slows all of them; what counts is their ratio."
import json, os, statistics, time
from collections.abc import Callable
from importlib.metadata import version

def seconds(work: Callable, clock: Callable=time.perf_counter) -> float:
    start = clock()
    work()
    return clock() - start

class Took(float):
    "A median, with `low` and `high`: its 95 % interval by order statistics; of fewer than six times, all of them lie between."
    def __new__(cls, times):
        times = sorted(times)
        self, n = super().__new__(cls, statistics.median(times)), len(times)
        out = max(0, int((n - 1.96 * n ** .5) / 2)) # so many times may lie below the interval, and above
        self.low, self.high = times[out], times[-1 - out]
        return self

def take_turns(rounds: int, clock: Callable=time.perf_counter, **contestants: Callable) -> dict[str, Took]:
    "Median seconds of each, run in turn; the first turn of each does not count."
    for work in contestants.values(): work()
    times = [{name: seconds(work, clock) for name, work in contestants.items()} for _ in range(rounds)]
    return {name: Took([t[name] for t in times]) for name in contestants}

def versions(*packages: str) -> str: return ', '.join(f'{p} {version(p)}' for p in packages)

def keep_figures(
    job: str,     # what was to be done, with its size
    unit: str,    # less is better
    took: dict[str, float], # contestant -> its figure, a `Took` or a number; petlost comes first
    packages: dict[str, str]={}, # contestant -> its version, where that is not petlost's
    scale: float=1., # from the figures to the unit
):
    "Add a job to the file that PETLOST_FIGURES names; without one, nothing."
    if not (file := os.environ.get('PETLOST_FIGURES')): return
    ours = next(iter(took.values()))
    rows = [dict(who=who, version=packages.get(who) or versions('petlost'), value=scale * t, low=scale * t.low if isinstance(t, Took) else None,
                 high=scale * t.high if isinstance(t, Took) else None, ratio=float(t / ours)) for who, t in took.items()]
    with open(file, 'a', encoding='utf-8') as f: f.write(json.dumps(dict(job=job, unit=unit, rows=rows)) + '\n')
