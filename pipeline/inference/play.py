"""A line in the terminal and, as somebody types it, the words that a model expects next."""

from collections.abc import Callable, Sequence

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import BufferControl, FormattedTextControl, HSplit, Layout, Window
from prompt_toolkit.output import Output

from pipeline.inference.generation import readable
from pipeline.inference.predictor import Predictor
from pipeline.runtime.errors import InputError

SHOWN = 10  # words
BAR = 30  # places that a probability of 1 fills
KEYS = "Tab: take the first word   Up, Down: another model   Ctrl-C: leave"


class Play:
    """What is typed, and the model that completes it.

    Args:
        names: of models; `load` gives each, once, when it is shown first.
        load: gives the model of a name.
    """

    def __init__(self, names: Sequence[str], load: Callable[[str], Predictor]) -> None:
        self._names, self._load = list(names), load
        self._loaded: dict[str, Predictor] = {}
        self._known: tuple[tuple[str, str], list[tuple[str, float]]] | None = None  # of a model and text, what follows
        self.buffer = Buffer(multiline=False)

    @property
    def model(self) -> str:
        """The name of the model in use."""
        return self._names[0]

    def switch(self, by: int) -> None:
        """Use the model so many places further on."""
        self._names = self._names[by:] + self._names[:by]

    def expected(self, count: int = SHOWN) -> list[tuple[str, float]]:
        """The likeliest words that begin as the one that is being typed, with their probabilities after those before.

        Where the text ends in white space, or is empty, these are all words.
        """
        if self.model not in self._loaded:
            self._loaded[self.model] = self._load(self.model)
        predictor = self._loaded[self.model]
        before, begun = self._parts()
        if self._known is None or self._known[0] != (self.model, before):
            (words,) = predictor.suggest(predictor.tokens([before]), len(predictor.vocabulary))
            self._known = (self.model, before), words
        begun = begun.lower() if predictor.text.lowercase else begun
        return [word for word in self._known[1] if word[0].startswith(begun)][:count]

    def take(self) -> None:
        """Put the first of `expected` in the place of the word that is being typed."""
        for word, _ in self.expected(1):
            before, begun = self._parts()
            written = before + begun + word[len(begun) :]  # capitals stay as they were typed
            if before.strip() and not begun and " " not in readable(["a", word]):
                written = before.rstrip() + word  # a comma, as a person writes it
            self.buffer.text = f"{written} "
            self.buffer.cursor_position = len(self.buffer.text)

    def words(self) -> StyleAndTextTuples:
        """The lines below the text: a word each, its probability, and a bar as long."""
        try:
            words = self.expected()
        except InputError as error:  # the files of this model are damaged; others may be whole
            return [("ansired", f"  {error}")]
        if not words:
            return [("", "  the model knows no word that begins so")]
        width = max(len(word) for word, _ in words)
        return [
            part
            for word, probability in words
            for part in (
                ("bold", f"  {word:<{width}}"),
                ("", f"  {probability:7.2%}  "),
                ("ansicyan", "█" * round(BAR * probability) + "\n"),
            )
        ]

    def _parts(self) -> tuple[str, str]:
        """What stands before the word that is being typed, and that word, as far as it is there."""
        text = self.buffer.text
        begun = "" if not text or text[-1].isspace() else text.split()[-1]
        return text[: len(text) - len(begun)], begun


def play(
    names: Sequence[str], load: Callable[[str], Predictor], source: Input | None = None, output: Output | None = None
) -> Play:
    """Let somebody type until Ctrl-C, Ctrl-D or Enter; returns how it was left.

    Args:
        names: of models, the first in use first.
        load: as of `Play`.
        source: of keys; None: the terminal.
        output: where it is drawn; None: the terminal.
    """
    state = Play(names, load)
    keys = KeyBindings()

    @keys.add("tab")
    def _(event: KeyPressEvent) -> None:
        state.take()

    @keys.add("down")
    def _(event: KeyPressEvent) -> None:
        state.switch(1)

    @keys.add("up")
    def _(event: KeyPressEvent) -> None:
        state.switch(-1)

    @keys.add("c-c")
    @keys.add("c-d")
    @keys.add("enter")
    def _(event: KeyPressEvent) -> None:
        event.app.exit()

    def heading() -> str:
        return "  ".join(f"[{name}]" if name == state.model else name for name in names)

    text = Window(BufferControl(state.buffer), wrap_lines=True, dont_extend_height=True)
    rows = [
        Window(FormattedTextControl(heading), height=1, style="reverse"),
        text,
        Window(FormattedTextControl(state.words), height=SHOWN, wrap_lines=True),
        Window(FormattedTextControl(KEYS), height=1, style="ansigray"),
    ]
    layout = Layout(HSplit(rows), focused_element=text)
    Application(layout=layout, key_bindings=keys, input=source, output=output).run()
    return state
