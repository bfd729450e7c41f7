"""What a file of papers/ may say, as typed models; `whysgd.study.papers` reads them."""

from copy import copy
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, create_model

from whysgd.study.claims import ACCURACIES, MEASURED, METRICS
from whysgd.study.fields import Chosen, kept_as_given, known
from whysgd.study.registry import FOLDERS
from whysgd.study.settings import (
    UNIQUE,
    Count,
    Flag,
    Line,
    Name,
    NotNegative,
    Positive,
    Real,
    Scalar,
    Settings,
    Text,
    is_real,
    refuse,
)
from whysgd.study.spec import RunSettings

TableMetric = Literal[(*ACCURACIES, *MEASURED)]
ClaimMetric = Literal[METRICS]


def _some_settings() -> type[Settings]:
    """Return the settings of a run, none of which must be given."""
    fields = {"like": (Name, Field(None, description="Take the settings of this run first."))}
    for key, field in RunSettings.model_fields.items():
        annotation, field = field.annotation, copy(field)
        field.default = None
        if key in FOLDERS:  # a penalty, transform, optimizer or schedule
            annotation = Annotated[Any, Chosen(key, partial=True, several=key == "transform")] | None
            field = Field(None, description=field.description)
        fields[key] = (annotation, field)
    return create_model("SomeSettings", __base__=Settings, __doc__="Settings of a run.", **fields)


SomeSettings = _some_settings()
GivenSettings = kept_as_given(SomeSettings)
Runs = dict[Name, GivenSettings]
Axes = Annotated[
    dict[Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")], Annotated[list[Scalar], Field(min_length=1), UNIQUE]],
    Field(min_length=1),
]


def _published(value):
    items = value if isinstance(value, list) else [value]
    if not all(item is None or is_real(item) for item in items):
        refuse("must be a finite number, a list of numbers, or null")
    return value


def _spread(value):
    items = value if isinstance(value, list) else [value]
    return value if all(item is None or item >= 0 for item in items) else refuse("must be at least 0")


Published = Annotated[Any, AfterValidator(_published), WithJsonSchema({"type": ["number", "array", "null"]})]


class Gap(Settings):
    """Two runs, or columns, between which others lie."""

    from_: Name = Field(alias="from")
    """Where the gap begins, 0."""
    to: Name
    """Where it ends, 1."""


class Column(Settings):
    """What a column of a table changes in every row."""

    label: Line
    """Its heading."""
    settings: GivenSettings = {}
    """Settings in place of the row's."""


class Grid(Settings):
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


class Row(Settings):
    """A row of a table."""

    run: Name
    """Its run."""
    label: Line
    """What readers see."""
    modifications: Line = ""
    """What the published table says of it."""
    metric: TableMetric | None = None
    """In place of the table's."""
    gap: Gap | None = None
    """Runs; how much of the difference between them the row recovers is shown."""
    lr: list[Positive | None] | None = None
    """In a table with columns, a learning rate for each; null, there is no such run."""
    strength: list[NotNegative | None] | None = None
    """In a table with columns, a strength of the penalty for each; null where there is none."""
    mean: Published = None
    """As published, in percent; a list with a number for each column."""
    std: Annotated[Published, AfterValidator(_spread)] = None
    """The published spread, in the same way."""


class Table(Settings):
    """A table: rows, rows × columns, or a grid."""

    title: Line
    """Its title."""
    setting: Line = ""
    """On what it is measured."""
    finding: Line = ""
    """What the source says in words; stands under the table."""
    metric: TableMetric = "test_accuracy"
    """An accuracy at the last step, or at the one that the held-out images select, or a quantity measured of the
    trained network.
    """
    gap: Gap | None = None
    """Columns; how much of the difference between them the others recover is shown beside the table."""
    figures: Annotated[list[known("figure")], UNIQUE] = ["comparison", "curves"]
    """Figures drawn of it."""
    planes: Annotated[list[Name], UNIQUE] = []
    """Runs of the table whose loss is drawn over a plane, in the figure contours."""
    columns: dict[Name, Column] | None = None
    """For a table of rows x columns, what each column changes in every row."""
    grid: Grid | None = None
    """In place of rows and columns."""
    rows: Annotated[list[Row], Field(min_length=1)] | None = None
    """Its rows."""


class Path(Settings):
    """A method that descends a loss with two weights."""

    label: Line
    """What readers see."""
    batch: Literal["all", "micro_batch"] = "all"
    """Points of one step: `all` of them, or one `micro_batch` that is drawn."""
    momentum: Annotated[NotNegative, Field(lt=1)] = 0.0
    """Momentum of SGD."""
    nesterov: Flag = False
    """Use Nesterov's momentum."""
    clip: Positive | None = None
    """Largest L2 norm of a step's gradient."""
    penalty: Annotated[Any, Chosen("penalty", only=("gradient_norm",))] | None = None
    """gradient_norm, as runs have it."""


class Trajectories(Settings):
    """A picture of methods that descend the mean squared error of w1 w2 x over points (x, y)."""

    title: Line
    """Its title."""
    points: Annotated[list[Annotated[list[Real], Field(min_length=2, max_length=2)]], Field(min_length=2)]
    """Pairs of x and y."""
    start: Annotated[list[Real], Field(min_length=2, max_length=2)]
    """w1 and w2 before the first step."""
    micro_batch: Count = 1
    """Points of one micro-batch."""
    lr: Positive
    """Learning rate."""
    steps: Count
    """Steps of each method."""
    seeds: Count = 1
    """Seeds 0, 1, … of the methods that draw micro-batches."""
    window: Annotated[list[Real], Field(min_length=4, max_length=4)] = [-0.5, 3.5, -0.5, 3.5]
    """Least and largest w1, least and largest w2 that are shown."""
    methods: Annotated[dict[Name, Path], Field(min_length=1)]
    """The methods."""


class OutOfScope(Settings):
    """Rows of the published tables that are not reproduced, so that none is dropped in silence."""

    table: Text
    """One of `tables`, or the title of a published table of which nothing is reproduced."""
    rows: Annotated[list[Line], Field(min_length=1)]
    """Their labels."""
    why: Text
    """The reason."""


class Claim(Settings):
    """A sentence of the paper, and how it is checked."""

    id: Name
    """A short name."""
    claim: Line
    """The sentence."""
    metric: ClaimMetric = "test_accuracy"
    """What a run's name stands for in the check."""
    check: str
    """The comparison; see `whysgd.study.claims` for the grammar."""


class Paper(Settings):
    """A paper's runs, published numbers and claims."""

    paper: Name
    """The name of the file."""
    title: Line
    """Title of the paper."""
    venue: Line = ""
    """Where it was published."""
    arxiv: Line = ""
    """Its number on arXiv."""
    defaults: GivenSettings = {}
    """Settings of every run."""
    runs: Runs = {}
    """The runs and what they change."""
    tables: Annotated[dict[Name, Table], Field(min_length=1)]
    """The tables."""
    trajectories: Trajectories | None = None
    """A picture of a loss with two weights."""
    out_of_scope: list[OutOfScope] = []
    """Published rows that are not reproduced."""
    claims: list[Claim] = []
    """What the paper claims."""
