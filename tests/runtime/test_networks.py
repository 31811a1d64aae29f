"""Which networks are open at a time."""

import pytest

from sd2rt.engine.errors import EngineError
from sd2rt.engine.spec import Form
from sd2rt.runtime.networks import FULL, SHALLOW, Networks
from tests.runtime.fakes import COMPUTE, FakeEngine

Key = tuple[str, Form]


class Opener:
    """Opens fake engines and tells which are open."""

    def __init__(self, broken: str = "") -> None:
        self.engines: list[tuple[Key, FakeEngine]] = []
        self._broken = broken

    def __call__(self, name: str, form: Form) -> FakeEngine:
        if name == self._broken:
            raise EngineError("it does not open")
        kind = name.removeprefix("tiny_")
        engine = FakeEngine(kind, COMPUTE[kind])
        self.engines.append(((name, form), engine))
        return engine

    @property
    def opened(self) -> list[Key]:
        return [key for key, engine in self.engines if not engine.closed]


def test_networks_stay_open() -> None:
    opener = Opener()
    networks = Networks("fake", opener)
    networks.open_usual()
    assert opener.opened == [("text_encoder", None), ("unet", None), ("vae_decoder", None)]
    assert networks.open("unet") is opener.engines[1][1]
    assert len(opener.engines) == 3
    networks.close()
    networks.close()
    assert opener.opened == []
    with pytest.raises(EngineError, match="the pipeline on fake is closed; load the model again"):
        networks.open("unet")


def test_one_component_at_a_time() -> None:
    opener = Opener()
    networks = Networks("fake", opener, one_at_a_time=True)
    networks.open_usual(deep=True)
    assert opener.opened == []
    for name in ("text_encoder", "unet", "unet", "vae_decoder", "text_encoder"):
        networks.open(name)
        assert opener.opened == [(name, None)]
    assert len(opener.engines) == 4


@pytest.mark.parametrize("one_at_a_time", [False, True])
def test_the_unet_is_whole_in_one_form_at_a_time(one_at_a_time: bool) -> None:
    opener = Opener()
    networks = Networks("fake", opener, one_at_a_time=one_at_a_time)
    for form, expected in ((None, [None]), (FULL, [FULL]), (SHALLOW, [FULL, SHALLOW]), (FULL, [FULL, SHALLOW]), (None, [SHALLOW, None])):
        networks.open("unet", form)
        assert opener.opened == [("unet", form) for form in expected]


def test_the_usual_ones_for_deep_cache_and_another_decoder() -> None:
    opener = Opener()
    Networks("fake", opener).open_usual(deep=True, decoder="tiny")
    assert opener.opened == [("text_encoder", None), ("unet", FULL), ("tiny_vae_decoder", None)]


def test_all_usual_ones_open_or_none() -> None:
    opener = Opener(broken="vae_decoder")
    with pytest.raises(EngineError, match="it does not open"):
        Networks("fake", opener).open_usual()
    assert len(opener.engines) == 2
    assert opener.opened == []
