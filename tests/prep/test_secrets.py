"""One list of what is secret: names, texts, and what is inside of values."""

import json
from typing import Any

import pytest

from launch.configs.schema import read_schema
from prep.secrets import holds_secret, is_secret, list_secrets, mask_text, mask_urls, mask_values

TOKEN = "hf_" + "a1B2" * 9


def test_of_all_keys_of_llamafactory_these_are_secret() -> None:
    found = {
        kind: [key for key in read_schema(kind)["properties"] if is_secret(key)] for kind in ("train", "infer")
    }
    everywhere = ["hf_hub_token", "ms_hub_token", "om_hub_token"]
    swanlab = ["swanlab_api_key", "swanlab_lark_webhook_url", "swanlab_lark_secret"]
    assert found == {"train": [*everywhere, "hub_token", *swanlab], "infer": [*everywhere, *swanlab]}


@pytest.mark.parametrize(
    "name",
    [
        *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MODELSCOPE_API_TOKEN", "WANDB_API_KEY", "OPENAI_KEY", "API_KEY"),
        *("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "MLFLOW_TRACKING_PASSWORD"),
        *(
            "token",
            "password",
            "apiKey",
            "accessToken",
            "X-Api-Key",
            "Authorization",
            "api_key_2",
            "hub_token_value",
        ),
        *("train.swanlab_api_key", "_redis_password", "push_to_hub_token", "trackio_api_key", "LARK_WEBHOOK"),
        *("access_tokens", "api_keys", "credentials", "cookie", "SMTP_PASS", "db_pwd", "密码", "访问令牌"),
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret(name)
    assert is_secret(name.upper())


@pytest.mark.parametrize(
    "name",
    [
        *("max_new_tokens", "skip_special_tokens", "tokenized_path", "num_input_tokens_seen", "add_tokens"),
        *("include_num_input_tokens_seen", "average_tokens_across_devices", "add_special_tokens", "cutoff_len"),
        *(
            "pad_token",
            "eos_token_id",
            "eos_token",
            "tokenizer_name",
            "TOKENIZERS_PARALLELISM",
            "token_env",
            "tokens",
        ),
        *("key", "keys", "key_proj", "monkey", "dataset_key", "remove_unused_keys", "label_keys", "hotkey", "PWD"),
        *(
            "author",
            "authority",
            "secretary",
            "forward_pass",
            "bypass",
            "no_auth_needed",
            "ignore_pad_token_for_loss",
        ),
        *("", "_", "7", "q_proj", "url", "value"),
    ],
)
def test_names_that_only_look_like_secrets(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("http://user:pass@host:80/x", "http://***@host:80/x"),
        ("http://user:p@ss@host/x", "http://***@host/x"),
        ("socks5://user:pass@host", "socks5://***@host"),
        ("https://token@host/x", "https://***@host/x"),
        ("https://h/x?access_token=abc&lang=zh", "https://h/x?access_token=***&lang=zh"),
        ("https://h/x?a=1&key=abc#api_key=d", "https://h/x?a=1&key=***#api_key=***"),
        ("https://open.feishu.cn/open-apis/bot/v2/hook/1-2-3", "https://open.feishu.cn/open-apis/bot/v2/hook/***"),
        ("https://hooks.slack.com/services/T1/B2/x", "https://hooks.slack.com/services/***"),
        ("https://host/@scope/name?q=a@b", "https://host/@scope/name?q=a@b"),
        ("git clone https://a:b@h/x and https://c:d@h/y", "git clone https://***@h/x and https://***@h/y"),
    ],
)
def test_what_is_secret_in_a_url(text: str, masked: str) -> None:
    assert mask_urls(text) == masked
    assert mask_values({"model_name_or_path": text}) == {"model_name_or_path": masked}


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (f"login with {TOKEN} failed", "login with *** failed"),
        ("Authorization: Bearer abcdef", "Authorization: Bearer ***"),
        ("{'Authorization': 'Basic dXNlcjpw'}", "{'Authorization': 'Basic ***'}"),
        ("hub_token='a b' done", "hub_token=*** done"),
        ('"swanlab_api_key": "x", "seed": 1', '"swanlab_api_key": ***, "seed": 1'),
        ("ray_init_kwargs={_redis_password: abc}", "ray_init_kwargs={_redis_password: ***}"),
        ("--wandb-api-key=abc --lr=1", "--wandb-api-key=*** --lr=1"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----.", "***."),
        ("Unexpected token: } at 3", "Unexpected token: } at 3"),
        ("hub_token: null, hub_token: true", "hub_token: null, hub_token: true"),
        ("eos_token: <|im_end|>, max_new_tokens=5", "eos_token: <|im_end|>, max_new_tokens=5"),
        ("Basic understanding-of secrets", "Basic understanding-of secrets"),
    ],
)
def test_what_is_secret_in_running_text(text: str, masked: str) -> None:
    assert mask_text(text) == masked


@pytest.mark.parametrize(
    ("value", "masked"),
    [
        ({"hub_token": "x", "seed": 1}, {"hub_token": "***", "seed": 1}),
        ({"hub_token": 123456}, {"hub_token": "***"}),
        (
            {"hub_token": None, "use_auth": True, "api_key": ""},
            {"hub_token": None, "use_auth": True, "api_key": ""},
        ),
        (
            {"ray_init_kwargs": {"_redis_password": "x", "n": 1}},
            {"ray_init_kwargs": {"_redis_password": "***", "n": 1}},
        ),
        ({"credentials": {"user": "u", "list": ["a"]}}, {"credentials": {"user": "***", "list": ["***"]}}),
        ({"extra_args": '{"hub_token": "x", "seed": 1}'}, {"extra_args": '{"hub_token": "***", "seed": 1}'}),
        ({"extra_args": '{"optim": "adamw"}'}, {"extra_args": '{"optim": "adamw"}'}),
        ({"runs": [{"a": {"api_key": "x"}}]}, {"runs": [{"a": {"api_key": "***"}}]}),
        ({"lora_target": "q_proj,key_proj"}, {"lora_target": "q_proj,key_proj"}),
    ],
)
def test_a_value_is_masked_all_the_way_down(value: dict[str, Any], masked: dict[str, Any]) -> None:
    assert mask_values(value) == masked
    assert holds_secret(value) == (masked != value)
    assert not holds_secret(json.loads(json.dumps(masked).replace("***", "")))


def test_a_text_of_deep_brackets_is_looked_through_as_a_text() -> None:
    deep = '{"a": ' * 5_000 + '{"hub_token": "canary"}' + "}" * 5_000
    assert "canary" not in mask_values({"extra_args": deep})["extra_args"]
    assert "canary" in set(list_secrets({"extra_args": deep}))


def test_the_secrets_of_a_value_are_listed_in_each_way_that_they_may_be_printed() -> None:
    values = {
        "hub_token": "ms-secret",
        "short": 1,
        "api_key": "1234",
        "proxy": "http://user:pa%20ssword@h:1",
        "extra_args": '{"swanlab_api_key": "sw-secret"}',
    }
    assert set(list_secrets(values)) == {
        *("ms-secret", "sw-secret", "user:pa%20ssword", "user:pa ssword", "pa%20ssword", "pa ssword"),
    }


@pytest.mark.parametrize(
    "text", ["http://" * 20_000, "a.-" * 50_000, "x=1;" * 50_000, "{" * 50_000 + "}", "a+" * 50_000 + "://"]
)
def test_no_text_takes_long(text: str) -> None:
    import time

    started = time.monotonic()
    mask_values({"a": text})
    assert time.monotonic() - started < 5
