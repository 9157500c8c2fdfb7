"""The lists that were read out of published wheels, and how provider options are read."""

from __future__ import annotations

import runpy
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

RECORDED = Path(__file__).resolve().parents[1] / "recorded"
READER = runpy.run_path(str(RECORDED / "read_wheels.py"))

DOCUMENTED = """
    device_id user_compute_stream trt_max_workspace_size trt_max_partition_iterations
    trt_min_subgraph_size trt_fp16_enable trt_bf16_enable trt_int8_enable
    trt_int8_calibration_table_name trt_int8_use_native_calibration_table trt_dla_enable
    trt_dla_core trt_engine_cache_enable trt_engine_cache_path trt_engine_cache_prefix
    trt_engine_hw_compatible trt_engine_decryption_enable trt_engine_decryption_lib_path
    trt_timing_cache_enable trt_timing_cache_path trt_force_timing_cache
    trt_context_memory_sharing_enable trt_layer_norm_fp32_fallback trt_builder_optimization_level
    trt_auxiliary_streams trt_tactic_sources trt_extra_plugin_lib_paths trt_profile_min_shapes
    trt_profile_opt_shapes trt_profile_max_shapes trt_cuda_graph_enable trt_dump_ep_context_model
    trt_ep_context_file_path trt_ep_context_embed_mode trt_weight_stripped_engine_enable
    trt_onnx_model_folder_path trt_load_user_initializer trt_op_types_to_exclude
    trt_preview_features trt_sparsity_enable trt_force_sequential_engine_build
    trt_detailed_build_log trt_dump_subgraphs
"""
UNDOCUMENTED = """
    trt_build_heuristics_enable trt_external_data_bytestream trt_external_data_bytestream_size
    trt_onnx_bytestream trt_onnx_bytestream_size
"""
"""Deprecated since TensorRT 8.6, and addresses in memory that only C++ can give."""

GONE_IN_11 = {
    "NetworkDefinitionCreationFlag": ["EXPLICIT_BATCH"],
    "BuilderFlag": [
        *("FP16", "BF16", "INT8", "FP8", "INT4", "FP4"),
        *("OBEY_PRECISION_CONSTRAINTS", "PREFER_PRECISION_CONSTRAINTS"),
    ],
    "IBuilderConfig": ["int8_calibrator", "set_calibration_profile"],
    "Builder": ["platform_has_fast_fp16", "platform_has_fast_int8"],
    "OnnxParser": ["supports_model"],
    "ICudaEngine": ["device_memory_size"],
    "ILayer": ["precision", "set_output_type"],
}
CLASSES_GONE_IN_11 = ["IAlgorithmSelector", "IInt8EntropyCalibrator2"]
KEPT = {
    "NetworkDefinitionCreationFlag": ["STRONGLY_TYPED"],
    "BuilderFlag": ["TF32", "VERSION_COMPATIBLE", "STRIP_PLAN", "EDITABLE_TIMING_CACHE"],
    "IBuilderConfig": [
        *("hardware_compatibility_level", "set_memory_pool_limit"),
        *("create_timing_cache", "set_timing_cache", "get_timing_cache"),
    ],
    "Builder": ["build_serialized_network"],
    "OnnxParser": ["parse_from_file", "supports_model_v2"],
    "IExecutionContext": ["execute_async_v3", "set_tensor_address", "set_input_shape"],
    "ICudaEngine": ["num_io_tensors", "device_memory_size_v2"],
    "Runtime": ["engine_host_code_allowed"],
}


def test_an_option_is_a_whole_string_and_not_a_part_of_a_message() -> None:
    library = b"""\0trt_fp16_enable\0[EP] trt_bf16_enable is set\0, trt_cache_path: \0
has_user_compute_stream\0user_compute_strtrt_int8_calibraation_table_name\0device_id\0trt_cut_sho"""
    found = READER["provider_options"](library)
    assert found == ["device_id", "trt_fp16_enable", "user_compute_stream"]


def test_how_values_are_written_is_in_the_bindings_errors() -> None:
    bindings = b"""\0[ERROR] [TensorRT] The value for the key 'trt_dla_core' should be a number.
\0[ERROR] [TensorRT] The value for the key 'trt_a' should be 'True' or 'False'.
\0"""
    assert READER["option_values"](bindings) == {
        "trt_dla_core": "a number.",
        "trt_a": "'True' or 'False'.",
    }


def test_the_providers_options_are_the_documented_ones(recorded: Any) -> None:
    known = sorted(DOCUMENTED.split() + UNDOCUMENTED.split())
    assert recorded("onnxruntime_gpu_1_31_1")["options"] == known


def test_the_options_of_an_installed_provider_are_the_recorded_ones(recorded: Any) -> None:
    spec = find_spec("onnxruntime")
    assert spec is not None
    assert spec.origin is not None
    library = Path(spec.origin).parents[1] / READER["PROVIDER_LIBRARY"]
    if not library.is_file():
        pytest.skip("no onnxruntime-gpu with the TensorRT provider is installed")
    assert set(DOCUMENTED.split()) <= set(READER["provider_options"](library.read_bytes()))


def test_what_tensorrt_11_gave_up_and_kept(recorded: Any) -> None:
    ten, eleven = (recorded(name)["classes"] for name in ("tensorrt_10_16", "tensorrt_11_4"))
    for name, members in GONE_IN_11.items():
        assert set(members) <= set(ten[name])
        assert not set(members) & set(eleven[name])
    assert set(CLASSES_GONE_IN_11) <= set(ten)
    assert not set(CLASSES_GONE_IN_11) & set(eleven)
    for name, members in KEPT.items():
        assert set(members) <= set(ten[name]) & set(eleven[name])


@pytest.mark.parametrize("path", sorted(RECORDED.glob("*.json")), ids=lambda path: str(path.stem))
def test_every_list_says_what_it_was_read_from(path: Path, recorded: Any) -> None:
    about = recorded(path.stem)
    assert about["wheel"].startswith(f"{about['name'].replace('-', '_')}-{about['version']}-")
    assert len(about["sha256"]) == 64
    assert path.stat().st_size < 100_000
