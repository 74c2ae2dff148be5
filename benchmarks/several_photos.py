"""Which rule makes one score of several photos, and does re-ranking help? Every rule against the one in use, on the same searches.

usage: petlost embed PHOTOS --out vectors.npz
       python benchmarks/several_photos.py --photos PHOTOS --vectors vectors.npz [--draws 8] [--seed 0] [--only 'one photo']

PHOTOS are labelled by pet and scene. For each kind of search and each rule it prints rank-1 and mAP, and their difference to the rule in use with a paired
95 % interval over pets: + above zero, - below. CPU milliseconds are for all searches of that row divided by their number, with what the rule prepares."""
import argparse, time

import numpy as np

from petlost.embed import unit
from petlost.evaluate import compare
from petlost.photo import open_photo
from petlost.photoset import read_photos
from petlost.quality import photo_quality
from petlost.several_photos import Search, album_searches, best_photos, burst_searches, report_figures, search_scores


class Ground:
    "The vectors, their cosines, and the gallery that is searched just now."
    def __init__(self, vectors, weights):
        self.v, self.s, self.w, self.rows = vectors, vectors @ vectors.T, weights, None
        self.order, self.lengths = np.argsort(-self.s, axis=1), {}

    def look(self, search: Search):
        "Make `rows`, `starts` and `owner` those of this search; what was prepared stays while the gallery is the same."
        rows = np.concatenate(search.reports)
        if np.array_equal(rows, self.rows): return self
        sizes, self.rows, self.reports, self.kept = [len(r) for r in search.reports], rows, search.reports, {}
        self.starts, owner = np.concatenate([[0], np.cumsum(sizes)[:-1]]), np.repeat(np.arange(len(sizes)), sizes)
        self.owner = np.full(len(self.v), -1)
        self.owner[rows] = owner
        return self

    def length(self, photos):
        "Of the mean vector of some photos."
        key = photos.tobytes()
        if key not in self.lengths: self.lengths[key] = np.sqrt(self.s[np.ix_(photos, photos)].mean())
        return self.lengths[key]

    def neighbours(self, k, among):
        "The k photos of other reports, of those in `among` (bool [n]), nearest to each gallery photo: their rows, [m, k]."
        near = self.order[self.rows, :60 * len(self.v) // among.sum()]
        ok = among[near] & (self.owner[near] != self.owner[self.rows][:, None])
        return np.take_along_axis(near, np.argsort(~ok, axis=1, kind='stable')[:, :k], 1)


def pooled(query, report):
    "Rules that know only cosines: how the query photos are joined, and the photos of a report."
    def rule(g, q):
        c, sizes = g.s[np.ix_(q, g.rows)], np.diff(np.append(g.starts, len(g.rows)))
        if query == 'one vector': c = c.mean(0, keepdims=True) / g.length(q)
        if report == 'one vector': s = np.add.reduceat(c, g.starts, 1) / sizes / g.kept.setdefault('lengths', np.array([g.length(r) for r in g.reports]))
        elif report == 'two best': s = np.stack([np.sort(c[:, a:a + n], 1)[:, -2:].mean(1) for a, n in zip(g.starts, sizes)], 1)
        elif report == 'softmax': e = np.exp(10 * c); s = np.add.reduceat(e * c, g.starts, 1) / np.add.reduceat(e, g.starts, 1)
        else: best, mean = np.maximum.reduceat(c, g.starts, 1), np.add.reduceat(c, g.starts, 1) / sizes; s = dict(best=best, mean=mean, half=(best + mean) / 2)[report]
        if query == 'best': return s.max(0)
        if query == 'softmax': e = np.exp(10 * s); return (e * s).sum(0) / e.sum(0)
        if query == 'quality': return g.w[q] / g.w[q].sum() @ s
        return s.mean(0)
    return rule


def expansion(k, alpha):
    "Alpha query expansion (Radenovic et al., 2018)."
    def rule(g, q):
        s, moved = g.s[np.ix_(q, g.rows)], []
        for v, row in zip(g.v[q], s):
            top = np.argsort(-row)[:k]
            moved.append(unit(v + np.clip(row[top], 0, None) ** alpha @ g.v[g.rows[top]]))
        return best_photos(np.stack(moved) @ g.v[g.rows].T, g.starts)
    return rule


def augmentation(k, alpha):
    "Database-side augmentation: every gallery vector moves towards its neighbours."
    def rule(g, q):
        if 'moved' not in g.kept:
            near = g.neighbours(k, g.owner >= 0)
            w = np.clip(g.s[g.rows[:, None], near], 0, None) ** alpha
            own, among = g.s[g.rows[:, None], near], g.s[near[:, :, None], near[:, None]]
            g.kept['moved'] = near, w, np.sqrt(1 + 2 * (w * own).sum(1) + np.einsum('mk,mkl,ml->m', w, among, w))
        near, w, length = g.kept['moved']
        return best_photos((g.s[np.ix_(q, g.rows)] + (g.s[q][:, near] * w).sum(2)) / length, g.starts)
    return rule


def hubness(k, weight, asked=None):
    "A gallery photo that is like many strangers counts less (CSLS, Conneau et al., 2018, has weight .5); `asked`: only so many photos are compared with."
    def rule(g, q):
        if 'hub' not in g.kept:
            among = g.owner >= 0
            if asked: among = np.isin(np.arange(len(g.v)), np.random.default_rng(0).permutation(g.rows)[:asked])
            g.kept['hub'] = g.s[g.rows[:, None], g.neighbours(k, among)].mean(1)
        return best_photos(g.s[np.ix_(q, g.rows)] - weight * g.kept['hub'], g.starts)
    return rule


def reciprocal(k1, k2, share, depth=100):
    "k-reciprocal re-ranking (Zhong et al., 2017) of the first `depth` photos."
    def one(g, photo):
        plain = g.s[photo, g.rows]
        top = np.argsort(-plain)[:depth]
        ids = np.append(photo, g.rows[top])
        s = g.s[np.ix_(ids, ids)]
        order, d = np.argsort(-s, 1), 2 - 2 * s
        def mutual(k): near = np.zeros(s.shape, bool); np.put_along_axis(near, order[:, :k + 1], True, 1); return near & near.T
        wide, narrow, w = mutual(k1), mutual(round(k1 / 2)), np.zeros(s.shape)
        for i, mine in enumerate(wide):
            grown = mine | np.any([narrow[c] for c in np.flatnonzero(mine) if (narrow[c] & mine).sum() > 2 / 3 * narrow[c].sum()] + [mine], axis=0)
            w[i, grown] = np.exp(-d[i, grown]); w[i] /= w[i].sum()
        w = w[order[:, :k2]].mean(1)
        both = np.minimum(w[0], w).sum(1)
        out = plain - 10
        out[top] = 2 - ((1 - share) * (1 - both / (2 - both)) + share * d[0] / d[0].max())[1:]
        return out
    return lambda g, q: best_photos(np.stack([one(g, photo) for photo in q]), g.starts)


IN_USE = 'in use: mean of the best'
RULES = {IN_USE: pooled('mean', 'best')}
QUERY = {f'query: {name}': pooled(name, 'best') for name in ('best', 'softmax', 'one vector', 'quality')}
REPORT = {f'report: {name}': pooled('mean', name) for name in ('mean', 'half', 'two best', 'softmax', 'one vector')}
AGAIN = {'query expansion, 2': expansion(2, 3), 'query expansion, 5': expansion(5, 3), 'augmentation, 3': augmentation(3, 3), 'k-reciprocal': reciprocal(10, 3, .5),
         'hubness, .25': hubness(10, .25), 'hubness, .5': hubness(10, .5), 'hubness, .25, 200 asked': hubness(5, .25, 200)}


def searches(labels, scenes, draws, seed):
    "Kinds of search by name; a place is a photo."
    album = {n: album_searches(labels, scenes, photos=n, draws=draws, seed=seed) for n in (1, 2, 3)}
    kinds = {f'burst, {n} query photos': burst_searches(labels, scenes, photos=n, seed=seed) for n in (1, 2, 3)} | {f'album, {n} query photos': s for n, s in album.items()}
    kinds['one photo each, all strangers'] = album_searches(labels, scenes, most=1, others=True, draws=draws, seed=seed)
    long = [s for s in album[1] if len(s.reports[int(np.argmax(s.right))]) == 3]
    kinds['trap: only the right report has 3 photos'] = [Search(s.query, [r if ok else r[:1] for r, ok in zip(s.reports, s.right)], s.right) for s in long]
    return kinds | {'trap: only the right report has 1 photo': [Search(s.query, [r[:1] if ok else r for r, ok in zip(s.reports, s.right)], s.right) for s in album[1]]}


def figures(ground, found, rule, labels, sources):
    "Figures of a rule that may look at more than cosines, and CPU milliseconds a search."
    scores, start = [], time.process_time()
    for s in found: scores.append(rule(ground.look(s), s.query))
    spent, ground.rows = time.process_time() - start, None
    return report_figures(scores, found, labels, sources), 1e3 * spent / len(found)


def line(name, f, base, ms):
    "One row of the table."
    text = f'  {name:32}' + ''.join(f'{f.mean[m]!s:22}' for m in ('rank1', 'mAP'))
    if base is not None:
        for m, i in compare(f, base).items():
            if m in ('rank1', 'mAP'): text += f"{f'{i.value:+.3f} [{i.low:+.3f} {i.high:+.3f}]':25}" + ('+ ' if i.low > 0 else '- ' if i.high < 0 else '  ')
    return f'{text:135}{ms:6.1f} ms'


def more_photos(vectors, labels, sources, scenes, draws):
    "What a second and a third photo of the query are worth: the same searches with fewer."
    three = album_searches(labels, scenes, photos=3, most=1, others=True, draws=draws)
    fewer = [[s._replace(query=s.query[:n]) for s in three] for n in (1, 2, 3)]
    found = [report_figures(search_scores(vectors, these), these, labels, sources) for these in fewer]
    print(f'\nMore query photos of other days, the same {len(three)} searches')
    for n, f in enumerate(found, 1): print(line(f'{n} photos', f, found[0] if n > 1 else None, 0)[:135].rstrip())


def main():
    a = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    a.add_argument('--photos', required=True), a.add_argument('--vectors', required=True)
    a.add_argument('--draws', type=int, default=8), a.add_argument('--seed', type=int, default=0), a.add_argument('--only', default='', help='kinds of search whose name has this')
    a = a.parse_args()
    found, kept = read_photos(a.photos), np.load(a.vectors)
    at = {p.name: p for p in found.photos}
    photos, vectors, draws = [at[name] for name in kept['paths'].tolist()], kept['vectors'], a.draws
    labels, sources, scenes = [found.pet(p) for p in photos], [p.source for p in photos], [p.scene or '' for p in photos]
    weights = np.array([photo_quality(open_photo(p.path)).sharpness for p in photos]) + .1
    ground = Ground(vectors, weights)
    print(f'{len(photos)} photos of {len(set(labels))} pets. {draws} draws of albums. Differences to the rule in use; + and - where the interval leaves out zero.')
    for kind, these in searches(labels, scenes, draws, a.seed).items():
        if a.only not in kind: continue
        print(f'\n{kind}: {len(these)} searches, {np.mean([len(s.reports) for s in these]):.0f} reports')
        several = len(these[0].query) > 1
        rules = RULES | (QUERY if several else {}) | ({} if 'one photo' in kind else REPORT) | ({} if several or 'trap' in kind else AGAIN)
        base = None
        for name, rule in rules.items():
            f, ms = figures(ground, these, rule, labels, sources)
            print(line(name, f, base, ms), flush=True)
            base = base or f
    if not a.only: more_photos(vectors, labels, sources, scenes, draws)


if __name__ == '__main__': main()
