"""Puzzles as other programs write them: real files, round trips against other writers, the place of every fault."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gram_ppl.cli import puzzles
from gram_ppl.tasks import ARC, GraphColoring, Maze, NQueens, Sudoku, Task
from gram_ppl.tasks.coloring import formats

FILES = Path(__file__).resolve().parents[1] / "data" / "formats"
EASY = "530070000600195000098000060800060003400803001700020006060000280000419005000080079"
HARD = "000000010400000000020000000000050407008000300001090000300400200050100000000806000"
MYCIEL3 = nx.mycielski_graph(4)  # 11 nodes, 20 edges, 4 colours

QUEENS = NQueens(6, num_validation=0, num_test=1)
MAZE = Maze((5, 7), num_validation=0, num_test=1, pool=20)

many = settings(max_examples=40)


@cache
def sudoku(box: tuple[int, int] = (3, 3)) -> Sudoku:
    length = (box[0] * box[1]) ** 2
    return Sudoku(box, (length - 2, length - 1), num_validation=0, num_test=1, pool=1)


@cache
def coloring(n: int, colors: int = 3) -> GraphColoring:
    return GraphColoring(n, colors, num_train=1, num_validation=0, num_test=1)


def tokens(line: str) -> list[int]:
    return [int(char) for char in line]


def read(task: Task, text: str) -> list[list[int]]:
    return [puzzle.x.tolist() for puzzle in task.read(text, "file")]


def sentence(task: Task, text: str) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (its text is returned)
        task.read(text, "file")
    assert re.fullmatch(r".+\.( \(and \d+ more\))?", str(caught.value))
    return str(caught.value)


# Files of other programs ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [("example.sdk", [EASY]), ("example.sdm", [EASY, HARD]), ("example.ss", [EASY]), ("printed.txt", [EASY]),
     ("kaggle.csv", [EASY, HARD]), ("extreme.csv", [EASY, HARD])],
)  # fmt: skip
def test_files_of_sudoku(name: str, expected: list[str]) -> None:
    found = puzzles.read(sudoku(), str(FILES / name))
    assert [puzzle.x.tolist() for puzzle in found] == [tokens(line) for line in expected]


def test_sixteen_hexadecimal_digits() -> None:
    """With 0 beside another blank and no G, 0 is a digit, which is written G here; else it is blank."""
    text = (FILES / "hex.txt").read_text()
    chars = "".join(text.split())
    (found,) = read(sudoku((4, 4)), text)
    assert found == [".123456789ABCDEF0".index(char) for char in chars]
    # the other convention: 1 .. 9, A .. G, with 0 or . for blank
    other = chars.replace("0", "G")
    for blank in ".0_":
        assert read(sudoku((4, 4)), other.replace(".", blank).lower()) == [found]


@pytest.mark.parametrize("name", sorted(path.name for path in FILES.glob("myciel3.*")))
def test_files_of_graphs(name: str) -> None:
    task = coloring(11, 4)
    (found,) = puzzles.read(task, str(FILES / name))
    graph = task.to_networkx(found.x)
    assert nx.is_isomorphic(graph, MYCIEL3)
    col = re.findall(r"^e (\d+) (\d+)$", (FILES / "myciel3.col").read_text(), re.MULTILINE)
    assert {frozenset(edge) for edge in graph.edges} == {frozenset((int(a) - 1, int(b) - 1)) for a, b in col}


def test_a_graph_by_option_or_as_a_file() -> None:
    path = FILES / "myciel3.col"
    by_option, as_file = puzzles.graph(coloring(11, 4), path), puzzles.read(coloring(11, 4), str(path))
    assert torch.equal(by_option[0].x, as_file[0].x)
    with pytest.raises(ValueError, match="--graph: inputs of Sudoku are no graphs"):
        puzzles.graph(sudoku(), path)
    with pytest.raises(ValueError, match=r"--graph: there is no file nowhere\.col"):
        puzzles.graph(coloring(11, 4), Path("nowhere.col"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_byte_order_marks_and_line_ends(encoding: str, end: str, tmp_path: Path) -> None:
    path = tmp_path / "puzzles"
    path.write_bytes(f"# mine{end}{EASY}{end}{end}{HARD}{end}".encode(encoding))
    found = puzzles.read(sudoku(), str(path))
    assert [puzzle.x.tolist() for puzzle in found] == [tokens(EASY), tokens(HARD)]


# What a puzzle may be -------------------------------------------------------------------------------------------------


def test_full_and_nearly_full_boards_and_those_without_solution() -> None:
    task = sudoku()
    (solution,) = task.solutions(torch.tensor(tokens(EASY)))
    full = task.line(solution)
    assert read(task, full) == [solution.tolist()]
    assert task.solutions(task.parse(full)).tolist() == [solution.tolist()]
    one_blank = full[:40] + "." + full[41:]
    assert task.solutions(torch.tensor(read(task, one_blank)[0])).tolist() == [solution.tolist()]
    none = "12345678." + "........9" + "." * 63
    assert sentence(task, f"{EASY}\n{none}") == (
        "file, line 2: The puzzle has no solution, although no two of its givens clash."
    )
    assert sentence(coloring(4, 3), "0 1\n0 2\n0 3\n1 2\n1 3\n2 3\n") == (
        "file: The graph has no proper colouring with 3 colours."
    )
    for empty in ("", "\n \n", "# nothing\n", "quizzes,solutions\n", "[Puzzle]\n"):
        assert read(task, empty) == []
    for empty in ("", "\n\n", "# nothing\n# at all\n"):
        assert read(coloring(4), empty) == []


def test_boards_need_all_their_rows() -> None:
    board = "\n".join(EASY[k : k + 9] for k in range(0, 81, 9))
    assert read(sudoku(), f"{board}\n\n{board}") == [tokens(EASY)] * 2
    assert sentence(sudoku(), f"{board[:-10]}\n\n{board}") == (
        "file, line 1: A 9 x 9 puzzle has 81 characters, found 72."
    )
    assert sentence(sudoku(), f"[Puzzle]\n{board[:-10]}\n[State]\n{board}").startswith("file, line 2: A 9 x 9")


@many
@given(st.integers(0, 2**31), st.lists(st.sampled_from(["line", "drawn", "spaced"]), min_size=1, max_size=4))
def test_drawn_boards_stand_beside_lines(seed: int, forms: list[str]) -> None:
    for task in (QUEENS, MAZE):
        generator = torch.Generator().manual_seed(seed)
        x = next(task.batches("train", len(forms), generator)).x
        drawn = [task.render(board) for board in x]
        written = {"line": "".join, "drawn": "\n".join, "spaced": lambda rows: "\n".join(map("  ".join, rows))}
        texts = [written[form](board.replace(" ", "").split("\n")) for form, board in zip(forms, drawn, strict=True)]
        assert read(task, "# some boards of mine\n" + "\n".join(texts)) == x.tolist()
        assert read(task, "\n\n".join(texts)) == x.tolist()


def test_faults_of_drawn_boards_have_a_place() -> None:
    board = "\n".join(["." * 6] * 6)
    assert sentence(QUEENS, f"{board}\n\n{board[:-3]}z..") == (
        "file, line 13, column 4: Character 34 of the board (row 6, column 4) is 'z': "
        "expected one of Q X 1 for a queen, or one of . _ 0 for none."
    )
    assert sentence(QUEENS, board[:-7]).startswith("file, line 1: A board of 6 x 6 has 36 characters, found 6.")


def test_a_bad_field_of_a_csv_file() -> None:
    rows = f"id,puzzle,solution\n0,{EASY},\n7,{HARD[:-1]}x,\n"
    assert sentence(sudoku(), rows).startswith("file, line 3, column 83: Character 81 of the puzzle")
    assert sentence(sudoku(), "id,puzzle\n3\n") == "file, line 2: A 9 x 9 puzzle has 81 characters, found 0."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("p edge 5 1\ne 1 2\n", "file, line 1, column 8: Expected a graph of 4 nodes, found 5."),
        ("c none\ne 1 2\n", "file, line 2, column 1: Expected a line p edge NODES EDGES, once and first,"),
        ("p edge 4 1\ne 1 5\n", "file, line 2, column 5: Expected a node from 1 to 4, found '5'."),
        ("p edge 4 1\n  e 2 2\n", "file, line 2, column 3: The graph joins node 2 to itself."),
        ("p edge 4 1\ne 1 2\nf 1 2\n", "file, line 3, column 1: Expected a line e NODE NODE"),
        ("p edge 4 1\np edge 4 1\n", "file, line 2, column 1: Expected a line p edge NODES EDGES, once"),
        ("0 1\n1 1\n", "file, line 2, column 3: The graph joins node 1 to itself."),
        ("a b\nb c\n", "file: Expected a graph of 4 nodes, found 3."),
        ("1 2\n2 9\n", "file: Expected a graph of 4 nodes, found 3."),
        ("0-1 1-2\n0-3, 1-\n", "file, line 2, column 6: Edge 2 of the list is '1-'"),
        ("0-1\n 0-4\n", "file, line 2, column 2: Edge 1 of the list is '0-4', and the nodes are 0 to 3."),
        ("<graphml>\n <node\n", "file, line 2, column 2: Expected GraphML, found a fault (unclosed token)."),
        ("<html></html>", "file: Expected GraphML (NetworkXError: file not successfully read as graphml)."),
        ("graph [\n  node [ id 0 ]\n  edge ?\n]\n", "file, line 3, column 8: Expected GML, found a fault ("),
        ('{"nodes": [],\n "links" []}', "file, line 2, column 10: Expected JSON, found a fault ("),
        ('{"nodes": [1], "links": []}', "file: Expected node-link JSON: "),
        ('{"nodes": [{"id": 1}], "links": [], "directed": true}', "file: Expected an undirected graph"),
    ],
)
def test_faults_of_graphs_have_a_place(text: str, expected: str) -> None:
    assert sentence(coloring(4), text).startswith(expected)


def test_lists_with_weights_headings_names_and_isolated_nodes() -> None:
    task = coloring(4)
    path = task.parse("0-1 1-2 2-3").tolist()
    for text in (
        "0 1\n1 2\n2 3\n", "1 2\n2 3\n3 4\n", "source,target\n0,1\n1,2\n2,3\n", "0 1 {}\n1 2 {'weight': 7}\n2 3 {}\n",
        "0 1 9\n1 2 3\n2 3 1\n", "10 20\n20 30\n30 40\n", "ann bob\nbob cid\ncid dan\n",
        "0 1\n1 2\n2 3\n3\n", "0: 1\n1: 0 2\n2: 1 3\n3: 2\n",
    ):  # fmt: skip
        assert read(task, text) == [path], text
    cycle = task.parse("0-1 1-2 2-3 0-3").tolist()
    assert read(task, "0 1 3\n1 0 2\n2 1 3\n3 0 2\n") == [cycle]  # three fields, but all edges from both sides
    assert read(task, "0 1\n2\n") == [task.parse("0-1").tolist()]


# Round trips ----------------------------------------------------------------------------------------------------------


@st.composite
def boards(draw: st.DrawFn) -> tuple[tuple[int, int], list[int]]:
    """A shape of boxes, and a grid of the textbook pattern under a renaming, some of its cells blank."""
    r, c = draw(st.sampled_from([(2, 2), (2, 3), (3, 3)]))
    n = r * c
    names = draw(st.permutations(range(1, n + 1)))
    shown = draw(st.lists(st.booleans(), min_size=n * n, max_size=n * n))
    grid = [names[(c * (row % r) + row // r + column) % n] for row in range(n) for column in range(n)]
    assume(sum(shown) > n * n // 3)  # blank boards take the solver long
    return (r, c), [digit * keep for digit, keep in zip(grid, shown, strict=True)]


@st.composite
def written(draw: st.DrawFn, box: tuple[int, int], x: list[int]) -> str:
    """A board in some style, by code of this test alone."""
    n, blank = box[0] * box[1], draw(st.sampled_from(".0*_"))
    chars = [str(digit) if digit else blank for digit in x]
    style, end = draw(st.sampled_from(["line", "rows", "printed", "sdk"])), draw(st.sampled_from(["\n", "\r\n"]))
    if style == "line":
        return "".join(chars) + draw(st.sampled_from(["", "  # rated 3"]))
    rows = [chars[k : k + n] for k in range(0, n * n, n)]
    if style == "printed":
        bar, dash, gap = (
            draw(st.sampled_from("|│")),
            draw(st.sampled_from(["-", "─"])),
            draw(st.sampled_from(["", " "])),
        )
        rule, lines = dash * (2 * n), []
        for k, row in enumerate(rows):
            lines += [rule] if k and k % box[0] == 0 else []
            lines.append(bar.join(gap.join(row[j : j + box[1]]) for j in range(0, n, box[1])))
        return end.join([f"*{rule}*", *lines, f"*{rule}*"] if draw(st.booleans()) else lines)
    head = ["#D a description, with 4 digits"] if style == "sdk" else []
    return end.join(["[Puzzle]"] * (style == "sdk") + head + ["".join(row) for row in rows])


@many
@given(data=st.data(), board=boards())
def test_boards_in_any_style_are_read_and_bad_cells_found(data: st.DataObject, board: tuple) -> None:
    box, x = board
    text, task = data.draw(written(box, x)), sudoku(box)
    assert read(task, text) == [x]
    # the right place of a character that is none
    body = text.partition("  #")[0]
    at = data.draw(st.sampled_from([k for k, char in enumerate(body) if char in "123456789"]))
    assume("#" not in body[:at].rpartition("\n")[2])
    spoilt = f"{text[:at]}X{text[at + 1 :]}"
    told = re.match(r"file, line (\d+), column (\d+): Character \d+ of the puzzle .* is 'X'", sentence(task, spoilt))
    assert told
    assert spoilt.splitlines()[int(told[1]) - 1][int(told[2]) - 1] == "X"


@st.composite
def graphs(draw: st.DrawFn) -> nx.Graph:
    n = draw(st.integers(2, 7))
    pairs = [(a, b) for b in range(n) for a in range(b)]
    graph = nx.empty_graph(n)
    graph.add_edges_from(draw(st.lists(st.sampled_from(pairs), unique=True, min_size=2 if n > 2 else 1)))
    return graph


def dimacs(graph: nx.Graph) -> str:
    lines = [f"p col {len(graph)} {graph.size()}", *(f"e {a + 1} {b + 1}" for a, b in graph.edges)]
    return "\n".join(["c made", "", *lines, "n 1 3"])


WRITERS = {
    "dimacs": dimacs,
    "edge list": lambda graph: "\n".join(nx.generate_edgelist(graph)),
    "edges": lambda graph: "\n".join(["# edges", *nx.generate_edgelist(graph, data=False, delimiter=",")]),
    "adjacency list": lambda graph: "\n".join(nx.generate_adjlist(graph)),
    "graphml": lambda graph: "\n".join(nx.generate_graphml(graph)),
    "gml": lambda graph: "\n".join(nx.generate_gml(graph)),
    "json": lambda graph: json.dumps(nx.node_link_data(graph, edges="links")),
    "newer json": lambda graph: json.dumps(nx.node_link_data(graph, edges="edges"), indent=2),
}


@pytest.mark.parametrize("name", WRITERS)
@many
@given(graph=graphs(), first=st.sampled_from([0, 1]))
def test_graphs_that_networkx_writes_are_read(name: str, graph: nx.Graph, first: int) -> None:
    """Numbered from 0 or from 1, where all nodes are listed or the last one has an edge."""
    n = len(graph)
    lists = name in ("edge list", "edges")
    shifted = first == 1 and name != "dimacs" and (not lists or graph.degree(n - 1) > 0)
    text = WRITERS[name](nx.relabel_nodes(graph, lambda node: node + 1) if shifted else graph)
    assume(not lists or len(text.splitlines()) - text.count("#") > 1)  # one line is a list of edges such as 0-1
    found = formats.graph(text, n)
    assert {frozenset(edge) for edge in found.edges} == {frozenset(edge) for edge in graph.edges}
    assert set(found) == set(range(n))


SEEDS = [WRITERS[name](nx.cycle_graph(4)) for name in WRITERS] + [(FILES / "example.sdk").read_text(), EASY]


@settings(max_examples=100)
@given(
    seed=st.sampled_from(SEEDS),
    changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 30), st.text(max_size=4)), min_size=1, max_size=3),
)
def test_damaged_files_are_read_or_refused_in_a_sentence(seed: str, changes: list) -> None:
    for place, gone, new in changes:
        place %= len(seed) + 1
        seed = seed[:place] + new + seed[place + gone :]
    for task in (coloring(4), sudoku()):
        try:
            found = task.read(seed, "file")
        except ValueError as error:
            assert re.fullmatch(r"file(, line \d+(, column \d+)?)?: .+\.( \(and \d+ more\))?", str(error), re.DOTALL)  # noqa: PT017
        else:
            assert all(puzzle.x.shape == (task.spec.len_in,) for puzzle in found)


# Other tasks ----------------------------------------------------------------------------------------------------------


def test_a_line_of_any_task_has_its_column() -> None:
    queens = NQueens(5, num_test=1, num_validation=1)
    assert sentence(queens, f"{'.' * 25}\n  {'.' * 24}k\n").startswith(
        "file, line 2, column 27: Character 25 of the board"
    )


@pytest.fixture(scope="module")
def arc(tmp_path_factory: pytest.TempPathFactory) -> ARC:
    folder, rng = tmp_path_factory.mktemp("arc"), np.random.default_rng(0)
    for k, subset in enumerate(("training", "evaluation", "evaluation")):
        grids = [rng.integers(0, 10, (2, 3)).tolist() for _ in range(4)]
        pairs = [{"input": grid, "output": grid[::-1]} for grid in grids]
        (folder / subset).mkdir(exist_ok=True)
        (folder / subset / f"{k:08x}.json").write_text(json.dumps({"train": pairs[:2], "test": pairs[2:]}, indent=1))
    return ARC(1, folder, canvas=5)


def test_tasks_of_arc_without_test_outputs(arc: ARC) -> None:
    root = Path(arc.config["root"])
    names = ("00000001", "00000002")
    tasks = {name: json.loads((root / "evaluation" / f"{name}.json").read_text()) for name in names}
    for task in tasks.values():
        for pair in task["test"]:
            del pair["output"]
    x = arc.inputs("test").tolist()
    alone = json.dumps(tasks[names[1]], indent=2)
    assert [p.x.tolist() for p in arc.read(alone, f"some/where/{names[1]}.json")] == x[2:]
    assert [p.x.tolist() for p in arc.read(alone, "standard input")] == x[2:]  # by its demonstrations
    assert [p.x.tolist() for p in arc.read(json.dumps(tasks), "arc-agi_test_challenges.json")] == x
    lines = "\n".join(["# questions", *(arc.line(row) for row in arc.inputs("test"))])
    assert [p.x.tolist() for p in arc.read(lines, "file")] == x
    broken = alone.replace("]", ",", 1)
    with pytest.raises(ValueError, match=r"^file, line \d+, column \d+: expected JSON, found a fault \("):
        arc.read(broken, "file")
    tasks[names[0]]["test"][0]["input"][0][1] = 12
    with pytest.raises(ValueError, match=r"^file, task 00000001, test pair 1, input: row 1, column 2 is 12"):
        arc.read(json.dumps(tasks), "file")
    tasks[names[0]]["train"].pop()
    with pytest.raises(ValueError, match=r"none of the 3 tasks that the model knows\.$"):
        arc.read(json.dumps({"new": tasks[names[0]] | {"test": tasks[names[1]]["test"]}}), "file")
