"""What nbdev's processors leave to us before a notebook becomes a page, with Quarto or without: settings.ini names `Chapter` in `procs`.

An exported cell keeps its place in the text, folded, below the signatures of what it defines. These come from the installed package, so that no
notebook is run; the methods of a class are among them. Links lead to pages, and to the repository where there is no page."""
import ast, os, re
from collections import Counter
from functools import cache, reduce
from importlib import import_module
from pathlib import Path

import yaml
from execnb.nbio import mk_cell, read_nb
from fastcore.docments import MarkdownRenderer
from nbdev.config import get_config
from nbdev.doclinks import NbdevLookup, _nbpath2html, nbglob
from nbdev.process import Processor
from nbdev.showdoc import showdoc_nm

DEFS = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef

class BrokenLink(ValueError): "A link to something that is not in the repository."

def page_of(notebook):
    "The page of a notebook, below `nbs`: nbdev's name for it, but for `05_index`, for that one is the home page's."
    notebook = Path(notebook)
    page = _nbpath2html(notebook)
    return notebook.with_suffix('.html') if page == Path('index.html') and notebook.name != get_config().readme_nb else page

@cache
def notebooks(): return [p.relative_to(get_config().nbs_path) for p in nbglob(as_path=True)]

@cache
def exported():
    "Every public name that a module exports, with the page and the place on it: {module: {name: address}}."
    cfg = get_config()
    moved = {_nbpath2html(n).as_posix(): page_of(n).as_posix() for n in notebooks() if n.name != cfg.readme_nb}
    def address(entry):
        page, place = entry[0].removeprefix(cfg['doc_host'] + cfg['doc_baseurl'] + '/').split('#')
        return f'{moved[page]}#{place}'
    modules = NbdevLookup().entries[cfg['lib_name']]['syms']
    return {m: {k.removeprefix(f'{m}.'): address(to) for k, to in found.items() if '._' not in k} for m, found in modules.items()}

class Names(NbdevLookup):
    "Links from names in backticks, but in headings and in what is a link already."
    def __init__(self, syms): self.syms, self.aliases = syms, {}

    def link_line(self, line):
        if line.startswith('#'): return line
        parts = re.split(r'(\[[^\]]*\]\([^)]*\))', line)
        return ''.join(part if i % 2 else super(Names, self).link_line(part) for i, part in enumerate(parts))

def names_for(module, cells):
    "What a name means on a page: what its module defines, what its cells import, names that are no plain words and stand for one thing only, and notebooks."
    every = exported()
    times = Counter(name for names in every.values() for name in names)
    known = {name: to for names in every.values() for name, to in names.items() if times[name] == 1 and not (name.isalpha() and name.islower())}
    for cell in cells:
        for tree in (cell.parsed_() or []) if cell.cell_type == 'code' else []:
            if isinstance(tree, ast.ImportFrom) and tree.module in every:
                known |= {o.asname or o.name: every[tree.module][o.name] for o in tree.names if o.name in every[tree.module]}
    return {n.stem: str(page_of(n)) for n in notebooks() if n.stem[0].isdigit()} | known | every.get(module, {})

def defined(cell):
    "Public names that a cell defines, in order, each class followed by its methods."
    for tree in cell.parsed_() or []:
        if not isinstance(tree, DEFS) or tree.name.startswith('_'): continue
        names = showdoc_nm(tree)
        yield from (name for name in ([names] if isinstance(names, str) else names) if not name.startswith('_'))
        if isinstance(tree, ast.ClassDef): yield from (f'{tree.name}.{o.name}' for o in tree.body if isinstance(o, DEFS) and not o.name.startswith('_'))

def documented(module, name):
    "A cell with the signature, a comment on each parameter, and the docstring of a name."
    symbol = reduce(getattr, name.split('.'), import_module(module))
    shown = MarkdownRenderer(symbol, name=name)
    if not symbol.__doc__: shown.docs = '' # inspect would take that of the type
    cell = mk_cell(f'### {name}\n\n{shown._repr_markdown_()}', 'markdown')
    cell.metadata = dict(documents=name, says=(shown.docs or '').partition('\n')[0])
    return cell

def folded(cell):
    "A cell that Quarto folds."
    only_imports = all(isinstance(t, (ast.Import, ast.ImportFrom)) for t in cell.parsed_() or [])
    cell.source = f'#| code-fold: true\n#| code-summary: "{"imports" if only_imports else "source"}"\n{cell.source}'
    return cell

class Chapter(Processor):
    def begin(self):
        cfg = get_config()
        self.path = Path(self.nb.path_).resolve()
        self.here = self.path.relative_to(cfg.nbs_path)
        module = next((c.directives_['default_exp'][0] for c in self.nb.cells if 'default_exp' in self.directives(c)), None)
        self.module = module and f'{cfg["lib_name"]}.{module}'
        self.names = Names({name: self.from_here(to) for name, to in names_for(self.module, self.nb.cells).items()})
        self.nb.cells = [cell for old in self.nb.cells for cell in self.cells(old)]

    def directives(self, cell): return getattr(cell, 'directives_', None) or {}
    def from_here(self, address): return os.path.relpath(address, self.here.parent)

    def cells(self, cell):
        "The cells that one cell becomes."
        kinds = self.directives(cell)
        if cell.cell_type == 'raw' and 'output-file' in cell.source:
            facts = yaml.safe_load(cell.source.strip('-\n ')) # nbdev takes a list with colons for facts too
            facts = {k: facts[k] for k in ('title', 'description') if k in facts}
            cell.source = f'---\n{yaml.dump(facts | {"output-file": page_of(self.here).name})}---\n'
            return [cell, *self.after_the_title()]
        if 'default_exp' in kinds or not cell.source.strip(): return []
        if 'export' not in kinds: return [cell]
        return [*(documented(self.module, name) for name in defined(cell)), folded(cell)]

    def after_the_title(self):
        "What stands below title and summary in the first cell: nbdev makes a heading of these two and drops the rest."
        first = next(c.source for c in read_nb(self.path).cells if c.cell_type == 'markdown' and c.source.startswith('# '))
        rest = re.sub(r'\A# .*\n*(>.*\n*)*', '', first)
        return [mk_cell(rest, 'markdown')] if rest.strip() else []

    def cell(self, cell):
        if cell.cell_type != 'markdown': return
        cell.source = re.sub(r'\]\(([^)\s]+)\)', lambda m: f']({self.link(m[1])})', cell.source)
        cell.source = self.names.linkify(cell.source)

    def link(self, target):
        "A link as it is written in a notebook becomes one from page to page, or into the repository."
        cfg = get_config()
        if re.match(r'[a-z]+:|#', target): return target
        path, hash, place = target.partition('#')
        there = Path(os.path.normpath(self.path.parent / path))
        if not there.exists(): raise BrokenLink(f'nbs/{self.here} links to {target}, which is not there')
        if not there.is_relative_to(cfg.nbs_path): return f'{cfg["git_url"]}/blob/{cfg["branch"]}/{there.relative_to(cfg.config_path)}{hash}{place}'
        return self.from_here(page_of(there.relative_to(cfg.nbs_path))) + hash + place.lower() if there.suffix == '.ipynb' else target
