"""A recipe: everything that a training run is, checked before it starts.

``splade-os train --show NAME`` prints a recipe with what every field means; the descriptions
below are that text. `splade_os.training.recipe_file` reads and prints it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class QuerySide(_Part):
    """How queries are encoded."""

    kind: Literal["encoder", "idf", "li-lsr"] = Field(
        "encoder",
        description="encoder: the same transformer as documents, or what the base has: one of its "
        "own, a table behind the pooling. idf: one weight per token, no "
        "model runs. li-lsr: that weight is a linear function of the word embedding "
        "(arXiv 2505.01452) and becomes a table at the end.",
    )
    table: str = Field(
        "corpus",
        description="(idf, li-lsr) the table to start from: ones, corpus (IDF over the training "
        "documents), model (the base's own), or a file idf.json.",
    )
    trainable: bool = Field(True, description="(idf) whether the weights are learned.")
    learning_rate: float = Field(1e-3, gt=0, description="(idf, li-lsr) their own learning rate.")


class LoraPart(_Part):
    """Low-rank adapters (peft); merged into the weights when the model is saved."""

    r: int = Field(16, ge=1, description="Rank.")
    alpha: int = Field(32, ge=1, description="Scale, divided by the rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout of the adapters' input.")
    target_modules: str | list[str] = Field(
        "all-linear", description="Module names, as peft takes them."
    )


class LexicalPart(_Part):
    """The lexical prior; it is added to the scores and not trained."""

    weight: float = Field(2.0, ge=0, description="c, in mean weights of the model at the start.")
    average_length: float = Field(100.0, gt=0, description="Tokens of an average document.")


class ModelPart(_Part):
    """What is trained."""

    base: str = Field(
        description="A masked-LM checkpoint or a SPLADE model: folder, hub name, or starter."
    )
    query: QuerySide = Field(default_factory=QuerySide, description="How queries are encoded.")
    activation: Literal["relu", "log1p_relu"] | None = Field(
        None,
        description="relu: log1p(relu(x)); log1p_relu: log1p of it once more. Null: the base's "
        "own, else relu.",
    )
    pooling: Literal["max", "sum"] | None = Field(
        None, description="Over the tokens of a text. Null: the base's own, else max."
    )
    max_length: int | None = Field(
        None, ge=2, description="Tokens of a text, special ones included. Null: the base's own."
    )
    query_max_length: int | None = Field(
        None, ge=1, description="The same for queries. Null: max_length."
    )
    max_active_dims: int | None = Field(
        None, ge=1, description="Written into the model: heaviest terms that it keeps per text."
    )
    cut_in_training: bool = Field(
        False, description="Texts are cut to max_active_dims while training as well."
    )
    lexical_prior: Literal["keep", "none"] | LexicalPart = Field(
        "keep",
        description="keep: that of the base (splade_os.json), if it has one; none; or weight and "
        "average_length. Scores are query · (learned + prior), the prior is fixed.",
    )
    dropout: float | None = Field(
        None, ge=0, lt=1, description="In training. Null: the base's own; 0 is faster."
    )
    lora: LoraPart | None = Field(None, description="Train adapters instead of all weights.")


class DataPart(_Part):
    """What it is trained on."""

    train: str | list[str] = Field(
        description="JSONL (also .gz) or Parquet files, a folder of datasets.save_to_disk, or a "
        "hub name; several are joined."
    )
    subset: str | None = Field(None, description="Configuration of a hub data set.")
    split: str = Field("train", description="Split of a hub data set.")
    query: str = Field("query", description="Column of the query.")
    documents: list[str] = Field(
        default_factory=lambda: ["positive"],
        description="Columns of its documents, the relevant one first. A column may hold a list.",
    )
    scores: str | list[str] | None = Field(
        None,
        description="(margin-mse, kl) column(s) of the teacher's scores, one number for each "
        "document, or of margins (positive minus negative), one for each negative; which of the "
        "two, their number says, alike in all rows.",
    )
    corpus: str | None = Field(
        None, description="The columns hold ids; their texts are here (JSONL or Parquet)."
    )
    corpus_id: str = Field("_id", description="Column of the id in the corpus.")
    corpus_text: list[str] = Field(
        default_factory=lambda: ["title", "text"], description="Columns of the text."
    )
    queries: str | None = Field(
        None, description="The query column holds ids; the texts are here, as in the corpus."
    )
    negatives: int | None = Field(
        None,
        ge=0,
        description="How many negatives of a list are used; rows with fewer are left out. Null: as "
        "many as every row has.",
    )
    negatives_pick: Literal["first", "spread"] = Field(
        "first",
        description="Which of a longer list: the first, or other ones in each epoch, spread over "
        "its ranks.",
    )
    leave_out: dict[str, list[str]] = Field(
        default_factory=dict,
        description="Column: values; rows with one of them are left out (before shuffling).",
    )
    most_per: dict[str, int] = Field(
        default_factory=dict,
        description="Column: number; at most so many rows of each of its values (after shuffling), "
        "so that no source dominates.",
    )
    most_per_template: int | None = Field(
        None,
        ge=1,
        description="At most so many rows whose queries begin with the same four words, so that no "
        "template of questions dominates. Not where the query column holds ids.",
    )
    limit: int | None = Field(None, ge=1, description="Use so many rows, after shuffling.")
    shuffle_seed: int | None = Field(
        None, description="Shuffle the rows before limit and held_out. Null: file order."
    )
    held_out: Annotated[int, Field(ge=0)] | Annotated[float, Field(gt=0, lt=1)] = Field(
        0,
        description="So many of the last rows, or (below 1) this share of all, are kept for "
        "evaluation (`held-out`).",
    )
    sampler: Literal["no-duplicates", "random", "sequential"] = Field(
        "no-duplicates",
        description="no-duplicates: no text twice in a batch, in whatever column.",
    )

    def held_out_of(self, rows: int) -> int:
        """How many of so many rows are held out."""
        if isinstance(self.held_out, int):
            return self.held_out
        return max(1, round(rows * self.held_out))


class LossPart(_Part):
    """One loss; several are added with their weights."""

    kind: Literal["infonce", "margin-mse", "kl"] = Field(
        "infonce",
        description="infonce (also called multiple negatives ranking), margin-mse, or kl.",
    )
    weight: float = Field(1.0, ge=0, description="Factor.")
    scale: float = Field(1.0, gt=0, description="(infonce, kl) factor on the student's scores.")
    in_batch: bool = Field(
        True, description="(infonce) documents of the batch's other queries are negatives too."
    )
    temperature: float = Field(
        2.0, gt=0, description="(kl) scores of student and teacher are divided by it."
    )


class RegulariserPart(_Part):
    """What keeps vectors short."""

    kind: Literal["flops", "l1", "df-flops"] = Field(
        "flops",
        description="flops: sum of squared mean weights (arXiv 2004.05665). l1: mean sum of "
        "weights. df-flops: flops weighted by how many documents a term occurs in "
        "(arXiv 2505.15070).",
    )
    weight: float = Field(0.0, ge=0, description="λ.")
    convention: Literal["sentence-transformers", "opensearch", "naver"] = Field(
        "sentence-transformers",
        description="Of FLOPS with several documents per query: over all of them at once; sum "
        "over the columns; or mean of positives' and negatives'. λ does not carry over.",
    )
    threshold: int | None = Field(
        None, ge=0, description="(flops) only texts with more active dimensions (l0 mask)."
    )
    warmup: float = Field(
        1 / 3,
        ge=0,
        description="λ grows as (t/T)²; T is this part of all steps if at most 1, else steps.",
    )
    target_dims: float | None = Field(
        None,
        gt=0,
        description="A controller finds λ so that texts have so many active dimensions; weight "
        "is where it starts.",
    )
    over: Literal["step", "micro-batch"] = Field(
        "step",
        description="step: the mean over all ranks and accumulated batches, whatever their size. "
        "micro-batch: of each accumulated batch alone, as sentence-transformers does.",
    )


class TeacherPart(_Part):
    """A teacher that scores while the student learns; its work is kept on disk."""

    kind: Literal["cross-encoder", "dense", "sparse"] = Field(description="What it is.")
    model: str = Field(
        description="Folder or hub name; starter-base is the dense model that the starter is "
        "built from."
    )
    max_length: int = Field(256, ge=8, description="Tokens of a text (or pair).")
    pooling: Literal["mean", "cls"] = Field("mean", description="(dense) over the tokens.")
    normalise: bool = Field(True, description="(dense) cosine instead of dot product.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="(cross-encoder, dense) auto: bfloat16 on a GPU that multiplies it natively, "
        "else float32.",
    )
    query_prompt: str = Field("", description="Put before every query.")
    document_prompt: str = Field("", description="Put before every document.")


class DistillationPart(_Part):
    """Teachers, and how their scores become one."""

    teachers: list[TeacherPart] = Field(
        default_factory=list, description="Empty: the data has scores."
    )
    ensemble: Literal["min-max", "mean"] = Field(
        "min-max",
        description="min-max: each teacher's scores to [0, 1] per query, then the mean "
        "(arXiv 2411.04403). mean: as they are.",
    )
    score_scale: float = Field(30.0, gt=0, description="Factor on the ensemble's scores.")
    in_batch: bool = Field(
        False,
        description="Teachers score the documents of the batch's other queries as well (dense "
        "and sparse teachers only).",
    )

    @property
    def kind(self) -> Literal["own", "whole"]:
        """Of the scores, see `splade_os.training.teacher_scores`."""
        return "whole" if self.in_batch else "own"


class TopPart(_Part):
    """Training the masked-LM head, and layers below it, on states that are computed once."""

    layers: int = Field(
        0, ge=0, description="Layers of the body that are trained with the head, from the top."
    )
    layer_learning_rate: float = Field(1e-4, gt=0, description="Of these layers.")
    columns: int = Field(
        1500,
        ge=1,
        description="Vocabulary entries drawn for each step, beside those of its queries, on which "
        "the regulariser is measured.",
    )
    leak: float = Field(
        0.3, ge=0, description="Slope of a term that does not fire, leak · exp(x); 0: none."
    )
    bias_learning_rate: float = Field(2e-2, gt=0, description="Of the decoder's bias.")
    teacher_weight: float = Field(
        1.0,
        ge=0,
        description="Of the divergence from the teacher: BM25 plus the next two.",
    )
    start_weight: float = Field(
        0.0,
        ge=0,
        description="Of the weights that the model gave before it was trained. Above 0 they are "
        "computed for all documents at the start.",
    )
    cosine_weight: float = Field(
        20.0,
        ge=0,
        description="Of the cosine of mean states before training, in units of BM25. 0: the body "
        "was not made for dense retrieval; then no document counts as a false negative either.",
    )
    score_scale: float = Field(
        0.15, gt=0, description="Factor on scores: the teacher's, and the model's at the start."
    )


class EvaluationPart(_Part):
    """One collection that the model is tried on while it learns: nDCG@10, MRR@10, dimensions."""

    name: str = Field(description="Metrics are called eval_NAME_ndcg@10 ...")
    kind: Literal["beir", "nanobeir", "held-out"] = Field(
        "beir",
        description="beir: a folder. nanobeir: the sets of the hub's NanoBEIR, and their mean. "
        "held-out: queries of data.held_out among all their documents.",
    )
    path: str | None = Field(None, description="(beir) the folder; (nanobeir) its hub name.")
    split: str = Field("test", description="(beir) of the judgements.")
    sets: list[str] = Field(
        default_factory=lambda: ["msmarco", "nfcorpus", "nq"], description="(nanobeir) which."
    )
    queries: int | None = Field(None, ge=1, description="At most so many.")
    documents: int | None = Field(
        None, ge=1, description="All judged ones, and others up to so many."
    )
    idf: Literal["model", "corpus"] = Field(
        "model",
        description="(inference-free) query weights: the model's, or the IDF of the collection, "
        "as an index counts it.",
    )


class Recipe(_Part):
    """A training run."""

    name: str = Field("custom", description="For people.")
    description: str = Field("", description="For people.")
    output: str = Field("model", description="Folder of the trained model.")
    folder: str | None = Field(
        None, description="Where relative paths of data and evaluation begin. Null: where you are."
    )
    model: ModelPart = Field(description="What is trained.")
    data: DataPart = Field(description="What it is trained on.")
    losses: list[LossPart] = Field(
        default_factory=lambda: [LossPart()], min_length=1, description="Added up."
    )
    regularisers: dict[Literal["query", "document"], RegulariserPart] = Field(
        default_factory=dict, description="Of each side."
    )
    distillation: DistillationPart = Field(
        default_factory=DistillationPart, description="Teachers of margin-mse and kl."
    )
    grad_cache: int | None = Field(
        None,
        ge=1,
        description="Texts in memory at a time; the batch may then be as large as it should "
        "(gradient caching, arXiv 2101.06983).",
    )
    top_only: TopPart | None = Field(
        None,
        description="Train the head, and layers right below it, alone (inference-free models). It "
        "has a loss and a teacher of its own; losses, distillation and grad_cache are not used.",
    )
    evaluation: list[EvaluationPart] = Field(
        default_factory=list,
        description="Tried every eval_steps of training. Without any, there is no best model to go "
        "back to, and nothing that depends on an evaluation stops the run.",
    )
    early_stopping: int | None = Field(
        None, ge=1, description="Stop after so many evaluations without a better one."
    )
    stop_if_below_start: float | None = Field(
        None,
        ge=0,
        description="Stop when the nDCG@10 of any collection lies this much below its start; the "
        "model of the evaluation with the best mean before is kept.",
    )
    stop_on_collapse: bool = Field(
        True, description="Stop when vectors become empty, all full, equal, or not finite."
    )
    training: dict[str, Any] = Field(
        default_factory=dict, description="Any key of transformers.TrainingArguments."
    )

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        kinds = {loss.kind for loss in self.losses}
        if kinds & {"margin-mse", "kl"} and not (self.data.scores or self.distillation.teachers):
            raise ValueError(
                "margin-mse and kl learn from a teacher: name data.scores or distillation.teachers"
            )
        if self.distillation.teachers and not kinds & {"margin-mse", "kl"}:
            raise ValueError("there are teachers, but no loss of kind margin-mse or kl")
        if self.data.scores and not kinds & {"margin-mse", "kl"}:
            raise ValueError("there are data.scores, but no loss of kind margin-mse or kl")
        if self.distillation.teachers and self.data.scores:
            raise ValueError("data.scores and distillation.teachers exclude each other")
        if self.distillation.in_batch and any(
            teacher.kind == "cross-encoder" for teacher in self.distillation.teachers
        ):
            raise ValueError("a cross-encoder cannot score whole batches: set in_batch to false")
        if any(part.kind == "held-out" for part in self.evaluation) and not self.data.held_out:
            raise ValueError("evaluation of kind held-out needs data.held_out")
        if any(part.kind == "beir" and not part.path for part in self.evaluation):
            raise ValueError("evaluation of kind beir needs a path")
        if self.early_stopping and "metric_for_best_model" not in self.training:
            raise ValueError("early_stopping needs training.metric_for_best_model")
        return self
