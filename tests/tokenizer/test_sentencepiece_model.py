import json
from pathlib import Path

import pytest
import sentencepiece
from tokenizer.kit_vocabularies import SCORES, TOKENS, TYPES, copied, edit, kit_request
from tokenizer.vocabulary_file import llama_ids, write_vocabulary

from toolkit.errors import CheckpointError, TokenizerError
from toolkit.tokenizer import Tokenizer, TokenizerRequest, read_tokenizer
from toolkit.tokenizer.vocabulary import TokenType

CONTROL, USER_DEFINED, UNUSED = TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNUSED


def read(directory: Path, n_rows: int) -> Tokenizer:
    return read_tokenizer(kit_request("llama2", directory, n_embedding_rows=n_rows))


def tokens_from(tokenizer: Tokenizer, start: int) -> list[tuple[str, int]]:
    texts, types = tokenizer.metadata[TOKENS].value, tokenizer.metadata[TYPES].value
    return list(zip(texts, types, strict=True))[start:]


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize("n_rows", [401, 432])
def test_there_is_one_token_for_every_row_of_the_embedding(n_rows: int, tmp_path: Path) -> None:
    tokenizer = read(copied("llama2", tmp_path), n_rows)

    assert tokenizer.n_tokens == n_rows == len(tokenizer.metadata[SCORES].value)
    assert tokens_from(tokenizer, 400) == [(f"[PAD{i}]", UNUSED) for i in range(400, n_rows)]


def test_pieces_without_a_row_are_left_out_with_one_warning(tmp_path: Path) -> None:
    tokenizer = read(copied("llama2", tmp_path), 398)

    assert tokenizer.n_tokens == 398
    assert [w for w in tokenizer.warnings if "2 token(s) from 398" in w and "no row" in w]


def test_added_tokens_file_may_repeat_pieces_have_gaps_and_any_order(tmp_path: Path) -> None:
    directory = copied("llama2", tmp_path)
    before = tokens_from(read(directory, 400), 0)
    repeated = {"<unk>": 0, "<s>": 1, "</s>": 2, before[300][0]: 300}
    write_json(directory / "added_tokens.json", repeated | {"<|im_start|>": 403, "<|im_end|>": 401})

    tokenizer = read(directory, 404)

    assert tokens_from(tokenizer, 0)[:400] == before
    assert tokens_from(tokenizer, 400) == [
        ("[PAD400]", UNUSED),
        ("<|im_end|>", USER_DEFINED),
        ("[PAD402]", UNUSED),
        ("<|im_start|>", USER_DEFINED),
    ]
    assert tokenizer.warnings == ()


def test_repeated_pieces_of_the_added_tokens_file_keep_type_and_score(tmp_path: Path) -> None:
    directory = copied("llama2", tmp_path, "tokenizer.json", "tokenizer_config.json")
    alone = read(directory, 400)
    write_json(directory / "added_tokens.json", {"<unk>": 0, "<s>": 1, "</s>": 2})

    tokenizer = read(directory, 400)

    assert tokenizer.metadata == alone.metadata
    assert tokenizer.metadata[TYPES].value[:3] == (TokenType.UNKNOWN, CONTROL, CONTROL)


def test_another_text_for_the_same_id_is_warned_of(tmp_path: Path) -> None:
    directory = copied("llama2", tmp_path)
    old = tokens_from(read(directory, 400), 0)[350][0]
    write_json(directory / "added_tokens.json", {"<new>": 350})

    tokenizer = read(directory, 400)

    assert tokens_from(tokenizer, 0)[350] == ("<new>", USER_DEFINED)
    assert [w for w in tokenizer.warnings if "added_tokens.json makes token 350 '<new>'" in w and repr(old) in w]


def test_tokenizer_json_that_contradicts_the_model_is_warned_of(tmp_path: Path) -> None:
    directory = copied("llama2", tmp_path)
    expected = tokens_from(read(directory, 400), 0)
    edit(directory / "tokenizer.json", lambda content: content["added_tokens"].append({"id": 350, "content": "<new>"}))

    tokenizer = read(directory, 400)

    assert tokens_from(tokenizer, 0) == expected
    assert [w for w in tokenizer.warnings if "tokenizer.json says that token 350 is '<new>'" in w]


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
def test_tokens_added_by_any_file_join_the_pieces(file: str, tmp_path: Path) -> None:
    directory = copied("llama2", tmp_path)
    added = {i: {"content": f"<{i}>", "special": i % 2 == 0} for i in range(400, 406)}
    if file == "tokenizer.json":
        edit(directory / file, lambda content: content["added_tokens"].extend({"id": i} | t for i, t in added.items()))
    else:
        edit(
            directory / file,
            lambda content: content["added_tokens_decoder"].update({str(i): t for i, t in added.items()}),
        )

    tokenizer = read(directory, 406)

    assert tokens_from(tokenizer, 400) == [(f"<{i}>", USER_DEFINED if i % 2 else CONTROL) for i in range(400, 406)]


def test_added_tokens_become_control_by_mark_or_look_and_keep_plain_spaces(tmp_path: Path) -> None:
    directory = copied("llama2", tmp_path)
    texts = {"400": "<think>", "401": " led", "402": "▁▁", "403": "<|x|>", "404": "<unused7>"}
    edit(
        directory / "tokenizer_config.json",
        lambda content: content["added_tokens_decoder"].update(
            {i: {"content": text, "special": False} for i, text in texts.items()}
        ),
    )

    assert tokens_from(read(directory, 405), 400) == [
        ("<think>", USER_DEFINED),
        (" led", USER_DEFINED),
        ("  ", USER_DEFINED),
        ("<|x|>", CONTROL),
        ("<unused7>", CONTROL),
    ]


def test_byte_pieces_and_the_letters_they_stand_for_stay_apart(tmp_path: Path) -> None:
    directory = copied("llama2", tmp_path)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(directory / "tokenizer.model"))
    letter, byte = processor.piece_to_id("a"), processor.piece_to_id("<0x61>")

    tokens = tokens_from(read(directory, 400), 0)

    assert tokens[byte] == ("<0x61>", TokenType.BYTE)
    assert tokens[letter] == ("a", TokenType.NORMAL)
    assert [text for text, _ in tokens] == [processor.id_to_piece(i) for i in range(400)]


def test_added_token_that_repeats_a_piece_keeps_its_place_and_llama_cpp_loads_the_file(tmp_path: Path) -> None:
    directory = copied("llama2", tmp_path)
    before = tokens_from(read(directory, 400), 0)
    write_json(directory / "added_tokens.json", {"a": 400, "<last>": 401})

    tokenizer = read(directory, 402)

    # llama.cpp aborts the process when two ids have one text, so the later one gives way.
    assert tokens_from(tokenizer, 0) == [*before, ("[PAD400]", UNUSED), ("<last>", USER_DEFINED)]
    assert [w for w in tokenizer.warnings if "token 400 is 'a'" in w]
    assert llama_ids(write_vocabulary(tmp_path / "v.gguf", tokenizer.metadata), "<last>") == [401]


def test_missing_vocabulary_lists_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"tokenizer\.model, tokenizer\.json, vocab\.json with merges\.txt"):
        read(tmp_path, 400)


def test_vocabulary_of_another_kind_is_named(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD]\n", encoding="utf-8")

    with pytest.raises(TokenizerError, match=r"vocab\.txt is of another kind"):
        read(tmp_path, 400)


@pytest.mark.parametrize("name", ["tokenizer.model", "tokenizer.json", "tokenizer_config.json", "added_tokens.json"])
def test_git_lfs_pointer_is_named(name: str, tmp_path: Path) -> None:
    directory = copied("llama2", tmp_path)
    (directory / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 499723\n")

    with pytest.raises(CheckpointError, match=f"{name} is a git-lfs pointer.*git lfs pull"):
        read(directory, 400)


@pytest.mark.parametrize("damage", ["empty", "half", "text", "zeros", "broken piece"])
def test_damaged_model_is_refused_without_a_word_from_the_library(
    damage: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    directory = copied("llama2", tmp_path)
    file = directory / "tokenizer.model"
    whole = file.read_bytes()
    contents = {
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "text": b"IQ== 0\nIg== 1\n",
        "zeros": bytes(100),
        "broken piece": whole.replace(b"<0x61>", b"<0x\xff1>"),
    }
    file.write_bytes(contents[damage])

    with pytest.raises(TokenizerError, match=r"tokenizer\.model is not a sentencepiece model"):
        read(directory, 400)
    assert capfd.readouterr() == ("", "")


def test_demo_checkpoint_has_a_vocabulary() -> None:
    directory = Path(__file__).parents[2] / "toolkit" / "data" / "demo"
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))

    tokenizer = read_tokenizer(TokenizerRequest(directory, config, config["vocab_size"]))

    assert (tokenizer.model, tokenizer.n_tokens, tokenizer.warnings) == ("llama", 2048, ())
    assert tokenizer.metadata["tokenizer.ggml.eos_token_id"].value == 2
