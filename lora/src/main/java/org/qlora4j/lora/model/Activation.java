package org.qlora4j.lora.model;

import org.qlora4j.nf4.device.Ops;
import org.qlora4j.nf4.tensor.Tensor;

/** {@code hidden_act} of the gated feed-forward block. */
public enum Activation {
    /** {@code silu}: {@code x · sigmoid(x)}. */
    SILU {
        @Override
        void gated(Ops ops, Tensor y, Tensor gate, Tensor up) {
            ops.swiGlu(y, gate, up);
        }

        @Override
        void gatedBackward(Ops ops, Tensor dGate, Tensor dUp, Tensor dy, Tensor gate, Tensor up) {
            ops.swiGluBackward(dGate, dUp, dy, gate, up);
        }
    },
    /** {@code gelu_pytorch_tanh}: {@code x/2 · (1 + tanh(√(2/π)·(x + 0.044715·x³)))}. */
    GELU_TANH {
        @Override
        void gated(Ops ops, Tensor y, Tensor gate, Tensor up) {
            ops.geGlu(y, gate, up);
        }

        @Override
        void gatedBackward(Ops ops, Tensor dGate, Tensor dUp, Tensor dy, Tensor gate, Tensor up) {
            ops.geGluBackward(dGate, dUp, dy, gate, up);
        }
    };

    /** {@code y = activation(gate) ⊙ up}. */
    abstract void gated(Ops ops, Tensor y, Tensor gate, Tensor up);

    abstract void gatedBackward(Ops ops, Tensor dGate, Tensor dUp, Tensor dy, Tensor gate, Tensor up);
}
