"""Algorithm Distillation: predict the source's next action from its own past, across episodes (Laskin et al. 2022, Alg. 1)."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch.nn import functional as F
from tqdm.auto import tqdm

from adkit import artefacts
from adkit.collect import collect
from adkit.histories import Histories
from adkit.incontext import InContext
from adkit.model import CausalTransformer
from adkit.protocols import Env
from adkit.seeds import Rng
from adkit.tables import optimal_returns
from adkit.tokens import sample_windows, tokenize

if TYPE_CHECKING:
    import pandas as pd

def distill(model, histories, *, steps=400, batch=64, lr=4e-3, seed=0, opt="adamw", first=0.5, warm=0.0, warm_episodes=3, wd=0.01, betas=(.9,.98), warmup=50, decay=0.4, final=0.1, dtype=torch.bfloat16, ls=0., log=None):
    matrices=[p for n,p in model.named_parameters() if p.ndim==2 and n.startswith("blocks")]
    other=[p for n,p in model.named_parameters() if not(p.ndim==2 and n.startswith("blocks"))]
    if opt=="adamw":
        opts=[torch.optim.AdamW([{"params":matrices,"weight_decay":wd},{"params":other,"weight_decay":0.}],lr=lr,betas=betas,fused=True)]
    else:
        opts=[torch.optim.Muon(matrices,lr=opt,momentum=.95,weight_decay=wd,adjust_lr_fn="match_rms_adamw" if False else None),torch.optim.AdamW(other,lr=lr,betas=betas,weight_decay=0.,fused=True)]
    base=[[g["lr"] for g in o.param_groups] for o in opts]
    losses=[]
    rng=Rng.of(seed,"distill",np.arange(4*batch))
    for step in range(steps):
        f=min(1,(step+1)/warmup)*min(1,final+(1-final)*(steps-step)/(decay*steps))
        for o,b in zip(opts,base):
            for g,l in zip(o.param_groups,b): g["lr"]=l*f
        W=min(model.window,histories.n_episodes)
        B=batch
        if step<warm*steps: B=batch*W//warm_episodes; W=warm_episodes
        r=Rng.of(seed,"distill",np.arange(B)).at(step)
        tokens,target=tokenize(model.spec,sample_windows(histories,W,B,first,r))
        target=torch.as_tensor(target).to(model.device)
        logits=model(model.on_device(tokens),dtype=dtype)
        loss=F.cross_entropy(logits.flatten(0,1),target.flatten(),label_smoothing=ls)
        for o in opts: o.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(),1.)
        for o in opts: o.step()
        losses.append(loss.detach())
        if log and step%log==0: print(step,float(losses[-1]),flush=True)
    return torch.stack(losses).cpu().numpy()
