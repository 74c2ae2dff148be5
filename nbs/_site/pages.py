"""The notebooks as plain pages, without Quarto and without a request to anywhere: `make docs` writes them to _docs/.

nbdev makes the same intermediate notebooks of them as for Quarto, in _proc/ and only where something has changed; nbconvert makes pages of these."""
import os, re, shutil, sys
from collections import Counter, namedtuple
from html.parser import HTMLParser
from pathlib import Path

import nbformat, yaml
from latex2mathml.converter import convert
from nbconvert import TemplateExporter
from nbconvert.filters import Highlight2HTML
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbdev.config import get_config
from nbdev.serve import proc_nbs
from pygments.formatters import HtmlFormatter

HERE = Path(__file__).parent
Entry = namedtuple('Entry', 'notebook page title summary')

def sections():
    "The reading order: [(section, [notebook])], with the home page in a section without a name."
    tree = yaml.safe_load((HERE.parent / 'sidebar.yml').read_text(encoding='utf-8'))['website']['sidebar']['contents']
    return [(None, [item]) if isinstance(item, str) else (item['section'], item['contents']) for item in tree]

def prepared():
    "The folder of what nbdev makes of the notebooks, brought up to date."
    cache = get_config().config_path / '_proc'
    ours = max(p.stat().st_mtime for p in (HERE / 'chapter.py', get_config().lib_path / '_modidx.py'))
    return proc_nbs(n_workers=os.cpu_count(), force=cache.exists() and cache.stat().st_mtime < ours)

def read(cache, notebook):
    "What the sidebar needs to know of a prepared notebook, and the notebook."
    nb = nbformat.reads((cache / notebook).read_text(encoding='utf-8'), 4)
    facts = yaml.safe_load(nb.cells.pop(0).source.strip('-\n '))
    return Entry(notebook, str(Path(notebook).with_name(facts['output-file'])), facts['title'], facts.get('description', '')), nb

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

class Pages(TemplateExporter):
    "nbconvert with our template."
    def __init__(self):
        self.rendered = [] # headings of the page so far
        super().__init__(extra_template_paths=[str(HERE)], template_name='basic', template_file='page.html.j2',
                         filters=dict(highlight_code=Highlight2HTML(), markdown2html=self.markdown, headings=lambda _: self.rendered))

    def markdown(self, source):
        html = MarkdownWithMath(renderer=Renderer(self.rendered)).render(source)
        return html.replace('<table>', '<div class="wide"><table>').replace('</table>', '</table></div>')

    def page(self, nb, **about):
        self.rendered.clear()
        return self.from_notebook_node(nb, resources=about)[0]

def names(chapters, nbs):
    "A page with every name, by module."
    cells = []
    for e, nb in zip(chapters, nbs):
        said = [(c.metadata.documents, c.metadata.says.replace('|', '&#124;')) for c in nb.cells if 'documents' in c.metadata]
        rows = [f'| [`{name}`]({e.page}#{name.lower()}) | {says} |' for name, says in said]
        if rows: cells.append(nbformat.v4.new_markdown_cell('\n'.join([f'## [{e.title}]({e.page})', '', '| name | what it is |', '|---|---|', *rows])))
    return Entry(None, 'names.html', 'Every name', 'What each module exports, one line each.'), nbformat.v4.new_notebook(cells=cells)

def style():
    "Our style sheet, with Pygments' colours for light and dark."
    def colours(name): return HtmlFormatter(style=name).get_style_defs('.highlight')
    return f'{colours("default")}\n@media (prefers-color-scheme: dark) {{\n{colours("github-dark")}\n}}\n{(HERE / "style.css").read_text(encoding="utf-8")}'

def build(out):
    "Write all pages and what they show to a folder; returns how many."
    cache, cfg, exporter = prepared(), get_config(), Pages()
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(cache, out, ignore=shutil.ignore_patterns('*.ipynb', '*.yml', '_*'))
    (out / 'style.css').write_text(style(), encoding='utf-8')
    order = sections()
    chapters, nbs = zip(*(read(cache, n) for _, notebooks in order for n in notebooks))
    by_notebook = {e.notebook: e for e in chapters}
    index, index_nb = names(chapters, nbs)
    contents = [(section, [by_notebook[n] for n in notebooks]) for section, notebooks in order]
    contents[0][1].append(index)
    pages = [*zip(chapters, nbs, (None, *chapters), (*chapters[1:], None)), (index, index_nb, None, None)]
    for e, nb, before, after in pages:
        (out / e.page).parent.mkdir(exist_ok=True)
        (out / e.page).write_text(exporter.page(nb, entry=e, contents=contents, near=[before, after], up='../' * e.page.count('/'), cfg=cfg), encoding='utf-8')
    return len(pages)

if __name__ == '__main__':
    out = Path(sys.argv[1] if len(sys.argv) > 1 else get_config().doc_path)
    print(f'{build(out)} pages: open {out}/index.html')
