"Contestants on one machine take turns, so that whatever else it does slows all of them; what counts is their ratio."
import statistics, time
from collections.abc import Callable

def seconds(work: Callable, clock: Callable=time.perf_counter) -> float:
    start = clock()
    work()
    return clock() - start

def take_turns(rounds: int, clock: Callable=time.perf_counter, **contestants: Callable) -> dict[str, float]:
    "Median seconds of each, run in turn; the first turn of each does not count."
    for work in contestants.values(): work()
    times = [{name: seconds(work, clock) for name, work in contestants.items()} for _ in range(rounds)]
    return {name: statistics.median(t[name] for t in times) for name in contestants}
