"""What settings and parts are called elsewhere: in diffusers, timm, Lightning, Hydra's examples and papers' code."""

from __future__ import annotations

from collections.abc import Mapping

_CALLED: Mapping[str, str] = {
    # training
    "lr": "learning_rate base_lr learningrate step_size max_lr blr",
    "steps": "max_steps num_steps total_steps train_steps max_train_steps iterations iters max_iters niter epochs "
    "num_epochs max_epochs n_epochs epoch num_inference_steps sampling_steps num_sampling_steps nfe n_steps "
    "num_train_timesteps timesteps diffusion_steps",
    "batch_size": "batch bs batchsize global_batch_size train_batch_size total_batch_size batch_size_total",
    "micro_batch": "grad_accum gradient_accumulation gradient_accumulation_steps accumulate_grad_batches accum_iter "
    "grad_accumulation accumulation micro_batch_size per_device_train_batch_size batch_size_per_gpu local_batch_size",
    "warmup": "warmup_steps num_warmup_steps lr_warmup_steps lr_warmup warmup_iters lr_scheduler scheduler lr_schedule "
    "schedule warmup_epochs",
    "betas": "beta1 beta2 adam_beta1 adam_beta2 adam_betas optimizer optim",
    "weight_decay": "wd adam_weight_decay",
    "clip": "grad_clip max_grad_norm clip_grad clip_grad_norm gradient_clip_val gradient_clipping grad_norm clip_norm",
    "ema": "ema_decay ema_rate ema_momentum moving_average use_ema average",
    "class_dropout": "class_dropout_prob label_dropout label_drop_prob cfg_dropout cfg_prob dropout drop_prob p_uncond",
    "checkpoint": "ckpt resume_from init_from pretrained_checkpoint load_from resume",
    "log_every": "log_interval logging_steps log_freq log_every_n_steps print_every print_freq",
    "picture_every": "sample_every sample_interval image_every vis_every",
    "checkpoint_every": "ckpt_every save_every save_steps save_interval checkpoint_interval "
    "checkpointing_steps save_freq",
    "keep": "save_total_limit checkpoints_total_limit save_top_k keep_last max_checkpoints",
    "activation_checkpointing": "gradient_checkpointing grad_checkpointing use_checkpoint "
    "activation_checkpoint recompute",
    "workers": "num_workers n_workers dataloader_workers dataloader_num_workers",
    "seed": "random_seed global_seed manual_seed",
    # hardware
    "devices": "gpus num_gpus n_gpus ngpus gpu world_size nproc nproc_per_node",
    "num_nodes": "nodes nnodes",
    "accelerator": "device",
    "precision": "mixed_precision amp fp16 bf16 dtype half",
    "strategy": "ddp fsdp distributed parallel",
    "compile": "torch_compile use_compile",
    # data and streams
    "root": "path data_path data_dir dir folder train_dir dataset_path data_root image_folder_path",
    "dataset": "dataset_name repo",
    "image_size": "resolution size img_size image_resolution crop_size input_size",
    "flip": "random_flip hflip horizontal_flip augment mirror",
    "scale": "cfg_scale guidance_scale guidance_weight cfg strength factor w",
    "weight": "loss_weight coefficient lambda coeff alpha",
    "interval": "guidance_interval cfg_interval t_range",
    "prediction": "prediction_type parameterization objective target pred_type",
    "distribution": "time_sampling t_sampler timestep_sampling time_distribution weighting_scheme",
    # networks
    "denoiser": "model network net backbone transformer unet",
    "encoder": "enc_type repr_encoder feature_extractor vision_encoder teacher",
    "tokenizer": "vae autoencoder first_stage ae",
    "width": "hidden_size hidden_dim dim embed_dim d_model n_embd channels",
    "depth": "num_layers n_layers layers num_blocks n_blocks blocks",
    "heads": "num_heads n_heads n_head num_attention_heads",
    "patch": "patch_size",
    "channels": "n_components num_components components dims pca_dim out_channels latent_channels",
    "process": "noise_scheduler path_type interpolant diffusion",
    # scores
    "samples": "num_samples n_samples num_fid_samples num_images fid_samples",
    "metrics": "metric fid scores",
    "every": "eval_every eval_interval eval_steps eval_freq interval",
    "extractor": "feature_network inception_network",
    "guided": "use_cfg with_guidance",
    "evaluate": "eval evaluation validation val test",
    "train": "training trainer optim optimization",
    "fabric": "hardware accelerate",
    # parts
    "frechet": "fid frechet_distance frechet_inception_distance fdd fd",
    "kernel": "kid mmd kernel_inception_distance",
    "inception_score": "is isc inception",
    "precision_recall": "precision recall pr prdc improved_precision_recall",
    "density_coverage": "density coverage dc",
    "cfg": "classifier_free classifier_free_guidance",
    "representation": "rg representation_guidance",
    "none": "no off null unguided",
    "pca": "principal_components",
    "coevolving": "coredi learned linear learnable",
    "folder": "imagefolder image_folder images directory files",
    "huggingface": "hf hub datasets hf_dataset",
    "webdataset": "wds tar shards",
    "flow": "flow_matching rectified_flow fm rf linear_path si",
    "ddpm": "gaussian_diffusion vp",
    "dopri5": "ode rk45 adaptive",
    "sde": "euler_maruyama em",
    "pixel": "identity rgb raw",
    "separate": "concat concatenate joint side_by_side",
    "merged": "add sum added",
    "sdpa": "flash flash_attention flash_attn efficient",
    "products": "math naive vanilla eager",
}


def _by_word() -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for ours, theirs in _CALLED.items():
        for word in theirs.split():
            found[word] = (*found.get(word, ()), ours)
    return found


SYNONYMS: Mapping[str, tuple[str, ...]] = _by_word()
"""What is typed, in small letters with `_` -> what it is called here; those that there are at a place may be meant."""
