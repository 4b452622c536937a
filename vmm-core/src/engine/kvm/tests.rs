//! Guests of a few instructions, where there is a `/dev/kvm`; whole kernels are in the whole-path tests.
