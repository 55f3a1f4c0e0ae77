"""Give an encoder a masked-language-model head, so that it can be a teacher.

Many published encoders (sentence embedders, for instance) come without the head that distillation
by soft targets needs. `masked_lm_from_encoder` adds one, `train_head` trains it.
"""

import copy

from transformers import BertConfig, BertForMaskedLM, BertModel

from distilkit.config import LossConfig, TrainingConfig
from distilkit.distillation import distil
from distilkit.masking import MaskedBlocks
from distilkit.processes import seeded
from distilkit.run import Run


def masked_lm_from_encoder(encoder: BertModel, seed: int) -> BertForMaskedLM:
    """A BertForMaskedLM around a copy of an encoder; the head's weights are new and untrained.

    The decoder is tied to the encoder's word embeddings, as in BERT; the pooler is left out.

    Raises:
        TypeError: the encoder is of another class.
    """
    if type(encoder) is not BertModel:
        raise TypeError(
            f"an MLM head can be given to a BertModel, not to a {type(encoder).__name__}"
        )
    with seeded(seed):
        model = BertForMaskedLM(BertConfig.from_dict(encoder.config.to_dict()))
    state = {k: v for k, v in encoder.state_dict().items() if not k.startswith("pooler.")}
    model.bert.load_state_dict(state)
    model.tie_weights()
    return model.to(encoder.dtype).eval()


def train_head(
    model: BertForMaskedLM,
    blocks: MaskedBlocks,
    training: TrainingConfig,
    *,
    name: str,
    validation: MaskedBlocks | None = None,
) -> Run:
    """Train a new MLM head, with all weights, while every hidden state is held to its start.

    Learning without forgetting (Li and Hoiem 2016, arXiv 1606.09282), on hidden states: by MLM only
    the encoder would forget before the head can predict.

    The model stays as it is; arguments as for :func:`distilkit.distillation.pretrain`.
    """
    same = tuple((layer, layer) for layer in range(model.config.num_hidden_layers + 1))
    loss_config = LossConfig(kd_weight=0.0, mlm_weight=1.0, cosine_weight=5.0, cosine_layers=same)
    before = copy.deepcopy(model)
    return distil(
        model, before, blocks, training, name=name, loss_config=loss_config, validation=validation
    )
