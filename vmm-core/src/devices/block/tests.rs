//! The device with images and chains made here.
