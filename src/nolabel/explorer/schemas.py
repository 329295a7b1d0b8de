"""What goes over the wire: the requests and answers of the explorer's API."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nolabel.explorer.asking import MOST

Id = Annotated[int, Field(ge=0, le=2**63 - 1)]
Mark = Literal["keep", "drop", "wrong label"]
Session = Annotated[str, Field(pattern="^[A-Za-z0-9_-]{1,64}$", description="a browser's or script's name for itself")]
Words = Annotated[str, Field(max_length=20_000)]
Where = Annotated[str, Field(max_length=4000, description="SQL over the columns, such as folder = 'cats'")]


class Problem(BaseModel):
    detail: str


class Column(BaseModel):
    name: str
    type: Literal["text", "number", "boolean"]


class Asks(BaseModel):
    """Which kinds of query the run takes."""

    words: bool
    file: bool
    item: bool
    plus: bool


class Run(BaseModel):
    name: str
    method: str
    noun: str
    rows: int
    width: int
    ready: bool
    modes: list[str]
    dims: list[int]
    thumbnails: bool
    texts: bool
    asks: Asks
    columns: list[Column]
    against: str | None
    marks: list[str]
    version: int


class Map(BaseModel):
    state: Literal["pca", "ready"]
    method: Literal["PCA", "UMAP"]
    rows: int
    key: str
    note: str


class Names(BaseModel):
    names: list[str]


class Colouring(BaseModel):
    kind: Literal["categories", "numbers"]
    names: list[str] | None = None
    counts: list[int] | None = None
    low: float | None = None
    high: float | None = None
    what: str | None = None


class Item(BaseModel):
    id: int
    title: str
    text: str | None
    columns: dict[str, Any]
    mark: str | None
    tags: list[str]
    thumbnail: str | None


class Items(BaseModel):
    items: list[Item]
    total: int


class Duplicate(BaseModel):
    id: int
    reason: str


class Hit(Item):
    score: float
    matched: list[tuple[str, float]]
    duplicates: list[Duplicate]


class Search(BaseModel):
    """One of `words` and `item`, and how to search."""

    model_config = ConfigDict(extra="forbid")

    words: Words | None = None
    item: Id | None = None
    mode: str | None = Field(None, max_length=20)
    k: int = Field(50, ge=1, le=MOST)
    where: Where | None = None
    dims: int | None = Field(None, ge=1, le=2**20)
    rerank: int | None = Field(None, ge=1, le=2**20)
    shortlist: int | None = Field(None, ge=1, le=2**20)
    exact: bool = False
    plus: Words | None = None
    weight: float | None = None
    fold: bool = Field(True, description="put near-duplicates under the best of them")


class Hits(BaseModel):
    mode: str
    seconds: float
    multiply_adds: int
    hits: list[Hit]
    folded: int
    query: str | None = None


class Cluster(BaseModel):
    label: int
    name: str
    words: list[str]
    size: int
    tightness: float
    central: list[Item]
    edge: list[Item]
    duplicates: int
    colour: str


class Clusters(BaseModel):
    what: str
    clusters: list[Cluster]


class Score(BaseModel):
    name: str
    value: str
    what: str
    good: str


class Curve(BaseModel):
    name: str
    axis: str
    steps: list[float]
    values: list[float]


class RunReport(BaseModel):
    name: str
    method: str
    headline: str
    verdict: str | None
    reasons: list[str]
    rows: int
    width: int
    scores: list[Score]
    spectrum: list[float]
    curves: list[Curve]


class Measure(BaseModel):
    name: str
    value: float
    what: str


class Moved(BaseModel):
    item: Item
    kept: float
    before: list[Item]
    after: list[Item]


class Changed(BaseModel):
    items: int
    compared: int
    by: str
    likeness: list[Measure]
    moved: list[Moved]


class Report(BaseModel):
    runs: list[RunReport]
    changed: Changed | None


class Change(BaseModel):
    """A mark to set (null takes it away; left out, marks stay), tags to add and to remove."""

    model_config = ConfigDict(extra="forbid")

    ids: list[Id] = Field(max_length=100_000)
    session: Session
    mark: Mark | None = None
    add: list[Annotated[str, Field(max_length=200)]] = Field([], max_length=100)
    remove: list[Annotated[str, Field(max_length=200)]] = Field([], max_length=100)


class Undo(BaseModel):
    model_config = ConfigDict(extra="forbid")

    session: Session


class Marked(BaseModel):
    marks: dict[str, int]
    tags: dict[str, int]
    undo: str | None
    version: int


class MarkChange(Marked):
    changed: int
