"""What a file of papers/ may say, as typed models; `whysgd.study.papers` reads them."""

from copy import copy
from typing import Annotated, Any, Literal

from pydantic import Field, WithJsonSchema, create_model

from whysgd.study import settings as typed
from whysgd.study.claims import ACCURACIES, MEASURED, METRICS
from whysgd.study.fields import Chosen, kept_as_given, known
from whysgd.study.registry import FOLDERS
from whysgd.study.spec import RunSettings

TableMetric = Literal[(*ACCURACIES, *MEASURED)]
ClaimMetric = Literal[METRICS]


def _some_settings() -> type[typed.Settings]:
    """Return the settings of a run, none of which must be given."""
    fields = {"like": (typed.Name, Field(None, description="Take the settings of this run first."))}
    for key, field in RunSettings.model_fields.items():
        annotation, field = field.annotation, copy(field)
        field.default = None
        if key in FOLDERS:  # a penalty, transform, optimizer or schedule
            annotation = Annotated[Any, Chosen(key, partial=True, several=key == "transform")] | None
            field = Field(None, description=field.description)
        fields[key] = (annotation, field)
    return create_model("SomeSettings", __base__=typed.Settings, __doc__="Settings of a run.", **fields)


SomeSettings = _some_settings()
GivenSettings = kept_as_given(SomeSettings)
Runs = dict[typed.Name, GivenSettings]
Axes = Annotated[dict[Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")], typed.Scalars], Field(min_length=1)]


def _each(check, message: str):
    """Return the validator of a number, or of each in a list, that may be null."""

    def each(value):
        return all(one is None or check(one) for one in (value if isinstance(value, list) else [value]))

    return typed.must(each, message)


_NUMBERS = _each(typed.is_real, "must be a finite number, a list of numbers, or null")
Published = Annotated[Any, _NUMBERS, WithJsonSchema({"type": ["number", "array", "null"]})]


class Gap(typed.Settings):
    """Two runs, or columns, between which others lie."""

    from_: typed.Name = Field(alias="from")
    """Where the gap begins, 0."""
    to: typed.Name
    """Where it ends, 1."""


class Column(typed.Settings):
    """What a column of a table changes in every row."""

    label: typed.Line
    """Its heading."""
    settings: GivenSettings = {}
    """Settings in place of the row's."""


class Grid(typed.Settings):
    """One run for each cell of a grid; {axis} stands for an axis's value in the texts of `run` and `settings`."""

    rows: Axes
    """Axes with their values; a row for each combination."""
    columns: Axes
    """One axis with its values."""
    run: str
    """What the run of a cell is called."""
    settings: dict[str, Any]
    """Settings of every run, over the paper's `defaults`."""
    cells: Runs = {}
    """What is different in single runs of the grid."""


class Row(typed.Settings):
    """A row of a table."""

    run: typed.Name
    """Its run."""
    label: typed.Line
    """What readers see."""
    modifications: typed.Line = ""
    """What the published table says of it."""
    metric: TableMetric | None = None
    """In place of the table's."""
    gap: Gap | None = None
    """Runs; how much of the difference between them the row recovers is shown."""
    lr: list[typed.Positive | None] | None = None
    """In a table with columns, a learning rate for each; null, there is no such run."""
    strength: list[typed.NotNegative | None] | None = None
    """In a table with columns, a strength of the penalty for each; null where there is none."""
    mean: Published = None
    """As published, in percent; a list with a number for each column."""
    std: Annotated[Published, _each(lambda one: one >= 0, "must be at least 0")] = None
    """The published spread, in the same way."""


class Table(typed.Settings):
    """A table: rows, rows × columns, or a grid."""

    title: typed.Line
    """Its title."""
    setting: typed.Line = ""
    """On what it is measured."""
    finding: typed.Line = ""
    """What the source says in words; stands under the table."""
    metric: TableMetric = "test_accuracy"
    """An accuracy at the last step, or at the one that the held-out images select, or a quantity measured of the
    trained network.
    """
    gap: Gap | None = None
    """Columns; how much of the difference between them the others recover is shown beside the table. Figures compare
    columns with the one where it begins.
    """
    figures: Annotated[list[known("figure")], typed.UNIQUE] = ["comparison", "curves"]
    """Figures drawn of it."""
    planes: Annotated[list[typed.Name], typed.UNIQUE] = []
    """Runs of the table whose loss is drawn over a plane, in the figure contours."""
    columns: dict[typed.Name, Column] | None = None
    """For a table of rows x columns, what each column changes in every row."""
    grid: Grid | None = None
    """In place of rows and columns."""
    rows: Annotated[list[Row], Field(min_length=1)] | None = None
    """Its rows."""


class Path(typed.Settings):
    """A method that descends a loss with two weights."""

    label: typed.Line
    """What readers see."""
    batch: Literal["all", "micro_batch"] = "all"
    """Points of one step: `all` of them, or one `micro_batch` that is drawn."""
    momentum: Annotated[typed.NotNegative, Field(lt=1)] = 0.0
    """Momentum of SGD."""
    nesterov: typed.Flag = False
    """Use Nesterov's momentum."""
    clip: typed.Positive | None = None
    """Largest L2 norm of a step's gradient."""
    penalty: Annotated[Any, Chosen("penalty", only=("gradient_norm",))] | None = None
    """gradient_norm, as runs have it."""


class Trajectories(typed.Settings):
    """A picture of methods that descend the mean squared error of w1 w2 x over points (x, y)."""

    title: typed.Line
    """Its title."""
    points: Annotated[list[Annotated[list[typed.Real], Field(min_length=2, max_length=2)]], Field(min_length=2)]
    """Pairs of x and y."""
    start: Annotated[list[typed.Real], Field(min_length=2, max_length=2)]
    """w1 and w2 before the first step."""
    micro_batch: typed.Count = 1
    """Points of one micro-batch."""
    lr: typed.Positive
    """Learning rate."""
    steps: typed.Count
    """Steps of each method."""
    seeds: typed.Count = 1
    """Seeds 0, 1, … of the methods that draw micro-batches."""
    window: Annotated[list[typed.Real], Field(min_length=4, max_length=4)] = [-0.5, 3.5, -0.5, 3.5]
    """Least and largest w1, least and largest w2 that are shown."""
    methods: Annotated[dict[typed.Name, Path], Field(min_length=1)]
    """The methods."""


class OutOfScope(typed.Settings):
    """Rows of the published tables that are not reproduced, so that none is dropped in silence."""

    table: typed.Text
    """One of `tables`, or the title of a published table of which nothing is reproduced."""
    rows: Annotated[list[typed.Line], Field(min_length=1)]
    """Their labels."""
    why: typed.Text
    """The reason."""


class Claim(typed.Settings):
    """A sentence of the paper, and how it is checked."""

    id: typed.Name
    """A short name."""
    claim: typed.Line
    """The sentence."""
    metric: ClaimMetric = "test_accuracy"
    """What a run's name stands for in the check."""
    check: str
    """The comparison; see `whysgd.study.claims` for the grammar."""


class Paper(typed.Settings):
    """A paper's runs, published numbers and claims."""

    paper: typed.Name
    """The name of the file."""
    title: typed.Line
    """Title of the paper."""
    venue: typed.Line = ""
    """Where it was published."""
    arxiv: typed.Line = ""
    """Its number on arXiv."""
    defaults: GivenSettings = {}
    """Settings of every run."""
    runs: Runs = {}
    """The runs and what they change."""
    tables: Annotated[dict[typed.Name, Table], Field(min_length=1)]
    """The tables."""
    trajectories: Trajectories | None = None
    """A picture of a loss with two weights."""
    out_of_scope: list[OutOfScope] = []
    """Published rows that are not reproduced."""
    claims: list[Claim] = []
    """What the paper claims."""
