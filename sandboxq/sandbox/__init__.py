"""What a child may touch: policy, plan, mechanisms."""
