"""The OpenAPI document: there for programs, complete, and true of tokens."""

from typing import Any

from tests.serve.http.conftest import TOKENS, Rig, bearer


def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{method} {path}": found for path, methods in document["paths"].items() for method, found in methods.items()}


def test_every_operation_says_what_it_may_answer(rig: Rig) -> None:
    found = operations(rig.client.get("/openapi.json").json())
    create = found["post /v1/jobs"]["responses"]
    assert set(create) == {"202", "400", "403", "404", "408", "409", "413", "415", "429", "500", "503"} | {"401"}
    assert create["429"]["headers"]["Retry-After"]["schema"]["type"] == "integer"
    assert create["202"]["headers"]["Location"]["required"]
    for name, operation in found.items():
        assert {"400", "403", "408", "413", "500", "503"} <= set(operation["responses"]), name
        assert "422" not in operation["responses"], name
        for status, reply in operation["responses"].items():
            assert reply["description"], (name, status)


def test_errors_have_the_shape_of_their_api(rig: Rig) -> None:
    document = rig.client.get("/openapi.json").json()
    for name, operation in operations(document).items():
        expected = "A1111ErrorReply" if "/sdapi/" in name else "ErrorReply"
        schema = operation["responses"]["403"]["content"]["application/json"]["schema"]
        assert schema == {"$ref": f"#/components/schemas/{expected}"}, name
    assert {"ErrorReply", "ErrorDetail", "A1111ErrorReply"} <= set(document["components"]["schemas"])
    assert not {"HTTPValidationError", "ValidationError"} & set(document["components"]["schemas"])


def test_fields_have_bounds_and_unknown_ones_are_refused(rig: Rig) -> None:
    schema = rig.client.get("/openapi.json").json()["components"]["schemas"]["JobRequest"]
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["prompt"]
    assert schema["properties"]["prompt"]["maxLength"] == 8192


def test_tokens_are_asked_for_where_they_are_set(rig: Rig, guarded: Rig) -> None:
    assert "security" not in str(operations(rig.client.get("/openapi.json").json()))
    document = guarded.client.get("/openapi.json", headers=bearer(TOKENS[0][1])).json()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "basic"}
    for name, operation in operations(document).items():
        assert ("security" in operation) is (name not in ("get /health", "get /ready")), name
        assert ("401" in operation["responses"]) is ("security" in operation)
