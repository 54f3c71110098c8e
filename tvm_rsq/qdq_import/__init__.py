"""Networks that bring their own quantization, as QuantizeLinear and DequantizeLinear: their scales become the plan."""
