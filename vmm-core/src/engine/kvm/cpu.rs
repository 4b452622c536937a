//! What a processor is: features and topology (CPUID), model specific registers, local interrupts.

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_fpu, kvm_msr_entry};
use kvm_ioctls::{Cap, Kvm, VcpuFd};

use super::KvmError;

const MISC_ENABLE: u32 = 0x1a0;
const MTRR_DEFAULT_TYPE: u32 = 0x2ff;

/// The features that KVM can give a guest, without the processors' own numbers.
///
/// # Errors
/// KVM does not say.
pub fn features(kvm: &Kvm) -> Result<CpuId, KvmError> {
    let mut cpuid = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(KvmError::kvm("ask for the processor's features"))?;
    let deadline = kvm.check_extension(Cap::TscDeadlineTimer);
    for entry in cpuid.as_mut_slice() {
        match entry.function {
            1 => {
                // A hypervisor is present; the timer with deadlines is KVM's own.
                entry.ecx |= 1 << 31;
                if deadline {
                    entry.ecx |= 1 << 24;
                }
                // VMX.
                entry.ecx &= !(1 << 5);
            }
            // Performance counters are not saved with a guest.
            0xa => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
            // SVM.
            0x8000_0001 => entry.ecx &= !(1 << 2),
            _ => {}
        }
    }
    Ok(cpuid)
}

/// The features with one processor's numbers: one package, `count` cores of one thread.
pub fn numbered(features: &CpuId, id: u8, count: u8) -> CpuId {
    let mut cpuid = features.clone();
    let (id32, count32) = (u32::from(id), u32::from(count));
    let width = u32::from(count).next_power_of_two().trailing_zeros();
    for entry in cpuid.as_mut_slice() {
        match entry.function {
            1 => {
                entry.ebx = entry.ebx & 0xffff | count32 << 16 | id32 << 24;
                // HTT: more than one logical processor in the package.
                entry.edx = if count > 1 { entry.edx | 1 << 28 } else { entry.edx & !(1 << 28) };
            }
            // Caches: the first two levels are a core's own, the rest is the package's.
            4 if entry.eax & 0x1f != 0 => {
                let shared = if entry.eax >> 5 & 7 >= 3 { (1 << width) - 1 } else { 0 };
                entry.eax = entry.eax & 0x3fff | shared << 14 | ((1 << width) - 1_u32).min(63) << 26;
            }
            0xb | 0x1f => {
                entry.edx = id32;
                (entry.eax, entry.ebx, entry.ecx) = match entry.index {
                    0 => (0, 1, 1 << 8),
                    1 => (width, count32, 2 << 8 | 1),
                    index => (0, 0, index),
                };
            }
            0x8000_0008 => entry.ecx = entry.ecx & !0xf0ff | width << 12 | (count32 - 1),
            // AMD: the extended APIC id, one thread a core, one node.
            0x8000_001e => (entry.eax, entry.ebx, entry.ecx) = (id32, id32, 0),
            0x8000_001d if entry.eax & 0x1f != 0 => {
                let shared = if entry.eax >> 5 & 7 >= 3 { count32 - 1 } else { 0 };
                entry.eax = entry.eax & !(0xfff << 14) | shared << 14;
            }
            _ => {}
        }
    }
    cpuid
}

/// Sets what firmware would have set.
///
/// # Errors
/// KVM refuses.
pub fn set_up(vcpu: &VcpuFd) -> Result<(), KvmError> {
    let entry = |index, data| kvm_msr_entry { index, data, ..kvm_msr_entry::default() };
    // Fast string operations; MTRRs on, everything write-back.
    let entries = [entry(MISC_ENABLE, 1), entry(MTRR_DEFAULT_TYPE, 1 << 11 | 6)];
    let msrs = Msrs::from_entries(&entries).map_err(|e| KvmError::Config(format!("{e:?}")))?;
    vcpu.set_msrs(&msrs).map_err(KvmError::kvm("set a processor's registers"))?;
    let fpu = kvm_fpu { fcw: 0x37f, mxcsr: 0x1f80, ..kvm_fpu::default() };
    vcpu.set_fpu(&fpu).map_err(KvmError::kvm("set a processor's registers"))?;
    // LINT0 takes the external interrupts, LINT1 the NMI.
    let mut lapic = vcpu.get_lapic().map_err(KvmError::kvm("read a local APIC"))?;
    for (at, mode) in [(0x350, 0x700_u32), (0x360, 0x400)] {
        let old = lapic
            .regs
            .get(at..at + 4)
            .map(|b| u32::from_le_bytes(std::array::from_fn(|i| b[i].cast_unsigned())));
        let new = old.unwrap_or(0) & !0x700 | mode;
        for (byte, value) in lapic.regs.iter_mut().skip(at).zip(new.to_le_bytes()) {
            *byte = value.cast_signed();
        }
    }
    vcpu.set_lapic(&lapic).map_err(KvmError::kvm("set a local APIC"))
}
