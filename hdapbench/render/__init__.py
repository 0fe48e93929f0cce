"""Boards, trials and sessions as text, HTML and pictures: pure, the same for the same values.

- cells: numbers and words, for all forms of a board
- table: columns of its tables
- sentences: its titles, answer and legend
- markdown: a board as markdown
- terminal: a board on a terminal or in a pipe
- records: a board as flat records, and as CSV
- latex: its rankings as booktabs tables
- notebook: its rankings in a notebook, with templates/notebook.html
- chart: accuracy against latency, as a chart of altair
- document: all of it as JSON, with a versioned schema
- comparison: two trials, rows or boards in a sentence and a table
- account: what is known of a trial and its method's decisions, as plain values and as text
- page: the same as a web page, with templates/explanation.html
- board_page: a board as a web page, with templates/board.html
- index_page: all boards of a folder, with templates/index.html
- drawing, front, charts: charts of boards, on the page and as pictures for papers
- verdict: why a row won or lost, in sentences
- web: what all pages share
- session: measured latencies of a session on a terminal
- picture: pictures of fleets, as PNG bytes
"""
