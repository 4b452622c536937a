//! What a processor is: features and topology (CPUID), model specific registers, local interrupts.

use core::arch::x86_64::__cpuid;

use kvm_bindings::{
    CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_MAX_CPUID_ENTRIES, Msrs, kvm_cpuid_entry2, kvm_fpu,
    kvm_msr_entry,
};
use kvm_ioctls::{Cap, Kvm, VcpuFd};

use super::KvmError;

const MISC_ENABLE: u32 = 0x1a0;
const MTRR_DEFAULT_TYPE: u32 = 0x2ff;
/// The leaf that lists the levels of processors in a package.
const LEVELS: u32 = 0xb;
/// The leaves with the processor's name.
const NAME: std::ops::RangeInclusive<u32> = 0x8000_0002..=0x8000_0004;

/// The features that KVM can give a guest, without the processors' own numbers.
///
/// # Errors
/// KVM does not say.
pub fn features(kvm: &Kvm) -> Result<CpuId, KvmError> {
    let cpuid = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(KvmError::kvm("ask for the processor's features"))?;
    let mut cpuid = completed(cpuid)?;
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

/// With the leaves that KVM leaves out: the processor's name, and since Linux 6.1 the levels of its package.
fn completed(mut cpuid: CpuId) -> Result<CpuId, KvmError> {
    cpuid.retain(|entry| !matches!(entry.function, LEVELS | 0x1f) && !NAME.contains(&entry.function));
    let highest =
        |cpuid: &CpuId, range| cpuid.as_slice().iter().find(|e| e.function == range).map_or(0, |e| e.eax);
    let mut more = Vec::new();
    if highest(&cpuid, 0) >= LEVELS {
        more.extend((0..2).map(|index| kvm_cpuid_entry2 {
            function: LEVELS,
            index,
            flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
            ..kvm_cpuid_entry2::default()
        }));
    }
    if highest(&cpuid, 0x8000_0000) >= *NAME.end() && __cpuid(0x8000_0000).eax >= *NAME.end() {
        more.extend(NAME.map(|function| {
            let name = __cpuid(function);
            let (eax, ebx, ecx, edx) = (name.eax, name.ebx, name.ecx, name.edx);
            kvm_cpuid_entry2 { function, eax, ebx, ecx, edx, ..kvm_cpuid_entry2::default() }
        }));
    }
    for entry in more {
        cpuid.push(entry).map_err(|e| KvmError::Config(format!("{e:?}")))?;
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
            LEVELS => {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_processors_are_cores_of_one_package() {
        let entry = |function, eax| kvm_cpuid_entry2 { function, eax, ..kvm_cpuid_entry2::default() };
        // As KVM gives them: of the levels no more than that there are none.
        let given =
            [entry(0, 0x1f), entry(1, 0), entry(LEVELS, 0), entry(0x1f, 0), entry(0x8000_0000, 0x8000_0008)];
        let cpuid = completed(CpuId::from_entries(&given).unwrap()).unwrap();
        let numbered = numbered(&cpuid, 4, 5);
        let level = |index| {
            let mut all = numbered.as_slice().iter().filter(|e| e.function == LEVELS);
            let entry = all.find(|e| e.index == index && e.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX != 0);
            entry.map(|e| (e.eax, e.ebx, e.ecx, e.edx))
        };
        // Threads of a core: one. Cores of the package: five, whose numbers take three bits.
        assert_eq!(level(0), Some((0, 1, 0x100, 4)));
        assert_eq!(level(1), Some((3, 5, 0x201, 4)));
        assert_eq!(level(2), None);
        assert!(!numbered.as_slice().iter().any(|e| e.function == 0x1f), "it would hide the other");
        let name = numbered.as_slice().iter().filter(|e| NAME.contains(&e.function));
        let host = __cpuid(0x8000_0003);
        assert!(name.clone().any(|e| (e.function, e.eax) == (0x8000_0003, host.eax)));
        assert_eq!(name.count(), 3);
    }
}
