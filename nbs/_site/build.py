"""The notebooks as plain pages, without Quarto and without a request to anywhere: `make docs` writes them to _docs/.

nbdev makes the same intermediate notebooks of them as for Quarto, in _proc/ and only where something has changed; nbconvert makes pages of these."""
import os, re, shutil, sys
from collections import Counter, namedtuple
from html.parser import HTMLParser
from pathlib import Path

import jinja2, nbformat, yaml
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbdev.config import get_config
from nbdev.serve import proc_nbs
from pygments.formatters import HtmlFormatter

HERE = Path(__file__).parent
Entry = namedtuple('Entry', 'notebook page title summary nb')

def sections():
    "The reading order: [(section, [notebook])], with the home page in a section without a name."
    tree = yaml.safe_load((HERE.parent / 'sidebar.yml').read_text(encoding='utf-8'))['website']['sidebar']['contents']
    return [(None, [item]) if isinstance(item, str) else (item['section'], item['contents']) for item in tree]

def prepared():
    "The folder of what nbdev makes of the notebooks, brought up to date."
    cache = get_config().config_path / '_proc'
    ours = max(p.stat().st_mtime for p in (HERE / 'chapter.py', get_config().lib_path / '_modidx.py'))
    return proc_nbs(n_workers=os.cpu_count(), force=cache.exists() and cache.stat().st_mtime < ours)

def entry(cache, notebook):
    nb = nbformat.reads((cache / notebook).read_text(encoding='utf-8'), 4)
    facts = yaml.safe_load(nb.cells.pop(0).source.strip('-\n '))
    return Entry(notebook, str(Path(notebook).with_name(facts['output-file'])), facts['title'], facts.get('description', ''), nb)

class Text(HTMLParser):
    "The text of a piece of HTML."
    def __init__(self, html):
        super().__init__()
        self.text = ''
        self.feed(html)
    def handle_data(self, data): self.text += data

class Renderer(IPythonRenderer):
    "Headings with the places that Quarto gives them, formulas as MathML, tables that scroll."
    def __init__(self, headings):
        super().__init__(escape=False)
        self.headings = headings # [(level, place, html)] of the page so far

    def heading(self, text, level, **attrs):
        place = re.sub(r'[^\w\s.-]', '', Text(text).text).strip().lower().replace(' ', '-')
        place = re.sub(r'^[^a-z]+', '', place) or 'section'
        times = Counter(o[1].rstrip('0123456789').rstrip('-') if re.search(r'-\d+$', o[1]) else o[1] for o in self.headings)[place]
        place += f'-{times}' if times else ''
        self.headings.append((level, place, text))
        return f'<h{level} id="{place}">{text} <a class="here" href="#{place}" aria-label="link to this section">#</a></h{level}>\n'

    def inline_math(self, body): return convert(body)
    def block_math(self, body): return convert(body, display='block')

class Pages(HTMLExporter):
    "nbconvert's exporter with our template; `page` makes one page."
    def __init__(self):
        super().__init__(extra_template_paths=[str(HERE)], template_file='page.html.j2')
        self.headings = []

    @jinja2.pass_context
    def markdown2html(self, context, source):
        html = MarkdownWithMath(renderer=Renderer(self.headings)).render(source)
        return html.replace('<table>', '<div class="wide"><table>').replace('</table>', '</table></div>')

    def page(self, nb, **about):
        self.headings.clear()
        return self.from_notebook_node(nb, resources=dict(about=about, headings=self.headings))[0]

def api(entries):
    "A notebook that lists every name, by module."
    cells = []
    for e in entries:
        names = [(c.metadata.documents, c.metadata.says) for c in e.nb.cells if 'documents' in c.metadata]
        if not names: continue
        rows = '\n'.join(f'| [`{name}`]({e.page}#{name.lower()}) | {says.replace("|", chr(92) + "|")} |' for name, says in names)
        cells.append(nbformat.v4.new_markdown_cell(f'## [{e.title}]({e.page})\n\n| name | what it is |\n|---|---|\n{rows}'))
    return Entry(None, 'names.html', 'Every name', 'What each module exports, one line each.', nbformat.v4.new_notebook(cells=cells))

def style():
    "Our style sheet, with Pygments' colours for light and dark."
    def colours(name): return HtmlFormatter(style=name).get_style_defs('.highlight')
    return f'{(HERE / "style.css").read_text()}\n{colours("default")}\n@media (prefers-color-scheme: dark) {{\n{colours("github-dark")}\n}}\n'

def build(out):
    "Write all pages and what they show to a folder; returns how many."
    cache = prepared()
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(cache, out, ignore=shutil.ignore_patterns('*.ipynb', '*.yml', 'README.md'))
    shown = [(section, [entry(cache, n) for n in notebooks]) for section, notebooks in sections()]
    chapters = [e for _, entries in shown for e in entries]
    shown[0][1].append(api(chapters))
    pages, exporter = [e for _, entries in shown for e in entries], Pages()
    (out / 'style.css').write_text(style(), encoding='utf-8')
    for e in pages:
        at = chapters.index(e) if e in chapters else None
        near = [chapters[i] if at is not None and 0 <= i < len(chapters) else None for i in ((at or 0) - 1, (at or 0) + 1)]
        html = exporter.page(e.nb, entry=e, sections=shown, near=near, up='../' * e.page.count('/'), cfg=get_config())
        (out / e.page).parent.mkdir(exist_ok=True)
        (out / e.page).write_text(html, encoding='utf-8')
    return len(pages)

if __name__ == '__main__':
    out = Path(sys.argv[1] if len(sys.argv) > 1 else get_config().doc_path)
    print(f'{build(out)} pages: open {out}/index.html')
