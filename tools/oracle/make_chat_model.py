#!/usr/bin/env python3
"""Trains the tiny chat model, testdata/model/tiny-chat: a llama with the byte-bpe tokenizer and a chat template, which
has learned a few answers by heart. It lets `run`, `chat` and `bisect` be shown and tested without a download, on
text that a reader can judge.

    make_chat_model.py --tokenizer testdata/tokenizer/byte-bpe --out testdata/model

Beside the files that make_model_oracle.py writes, expected.json has `chat`: per question the rendered prompt, its ids,
the ids of the greedy answer up to and with <|im_end|> (true float64), its text and the smallest top-2 gap. Training
is float32 on one thread from a fixed seed; another PyTorch or processor may end with other weights, so that the model
is remade and committed as a whole, never in part.
"""

import argparse
import pathlib
import random
import shutil

import torch
import transformers

import make_model_oracle
import true_float64

NAME, SEED, STEPS, BATCH = "tiny-chat", 11, 1200, 8

# Question and answer. Long enough to need the whole prompt, short enough for 60,000 weights.
LESSONS = (
    ("What does rope do?", "It turns each pair of values by an angle that grows with the position."),
    ("What does the norm do?", "It divides a row by its own size."),
    ("What does the mask hide?", "What has not been written yet."),
    ("What is a logit?", "A score for one token, before the softmax."),
    ("What is a kv head?", "A head of keys and values that several query heads read."),
    ("Where do two runs differ?", "Look for the first place; what comes after it follows from it."),
    ("Why is the cosine not enough?", "It can be close to one while the words are wrong."),
    ("How far is it to the town?", "Twelve miles if you walk, three if you row."),
    ("How was the sea?", "It was calm on exactly half of the days."),
    ("Who are you?", "A very small model that knows these few lines by heart."),
)


def train(tokenizer):
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=12, max_position_embeddings=256, rms_norm_eps=1e-5, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.1,
    )  # fmt: skip
    torch.manual_seed(SEED)
    model = transformers.LlamaForCausalLM._from_config(config, dtype=torch.float32, attn_implementation="eager")
    texts = []
    for question, answer in LESSONS:
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        texts.append(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False))
    rng = random.Random(SEED)
    optimiser = torch.optim.AdamW(model.parameters(), lr=6e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 6e-3, total_steps=STEPS, pct_start=0.1)
    for _ in range(STEPS):
        batch = rng.sample(texts, BATCH)
        width = max(map(len, batch))
        ids = torch.tensor([text + [tokenizer.pad_token_id] * (width - len(text)) for text in batch])
        labels = torch.tensor([text + [-100] * (width - len(text)) for text in batch])
        loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    print(f"{NAME}: loss {float(loss.detach()):.4f} after {STEPS} steps")
    return model


def answers(directory, tokenizer):
    """What expected.json says under `chat`; raises where an answer was not learned."""
    wide, found = true_float64.load(directory, "f64"), []
    for question, answer in LESSONS:
        messages = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        wanted = tokenizer(answer, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        path, gap = make_model_oracle.greedy(wide, ids, len(wanted))
        if path[len(ids):] != wanted:
            raise RuntimeError(f"{question!r} is answered {tokenizer.decode(path[len(ids):])!r}")
        found.append({"messages": messages, "prompt": prompt, "prompt_ids": ids, "answer_ids": wanted,
                      "answer": answer, "min_top2_gap": gap})
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokenizer", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    arguments = parser.parse_args()
    directory = arguments.out / NAME
    if directory.exists():
        raise SystemExit(f"{directory} exists")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(arguments.tokenizer)
    train(tokenizer).to(torch.bfloat16).save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(arguments.tokenizer / name, directory / name)
    chat = answers(directory, tokenizer)
    whole = chat[0]["prompt_ids"] + chat[0]["answer_ids"]
    ids = {"one": whole[:1], "short": whole[:4], "long": whole[:24]}
    constants = {"rms_norm_eps": 1e-4, "rope_parameters.rope_theta": 5000.0}
    expected, tensors, shown = make_model_oracle.compute(
        directory, ids, chat[1]["prompt_ids"], len(chat[1]["answer_ids"]), constants
    )
    make_model_oracle.require_useful(NAME, expected)
    head = {"name": NAME, "model_type": "llama", "saved_dtype": "bfloat16"}
    make_model_oracle.write_expected(directory, head, {**expected, "chat": chat}, tensors, shown)
    size = sum(path.stat().st_size for path in directory.iterdir())
    gap = min(answer["min_top2_gap"] for answer in chat)
    print(f"{NAME}: {size / 1000:.0f} kB, smallest top-2 gap {gap:.2f}, {expected['constants']}")


if __name__ == "__main__":
    main()
