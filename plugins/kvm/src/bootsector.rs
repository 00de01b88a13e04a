//! The tiny guest that shows whether an accelerator runs guests: 512 bytes that a BIOS loads and jumps to.
//!
//! Owns: the bytes, and how far a guest came by what it wrote. Must not know: libvirt.
//!
//! It goes the way a kernel goes, and writes a letter to the first serial port after each step:
//!
//! | mark | what works then |
//! |-|-|
//! | `R` | the firmware loaded the sector and jumped to it (real mode) |
//! | `L` | page tables, control registers and EFER: 64-bit long mode |
//! | `T` | three ticks of the timer came as interrupts through a 64-bit descriptor table, out of `hlt` |
//! | `W` | 100 million turns of a loop: what any kernel needs to unpack itself. A CPU or an emulator takes 0.05 to 0.5 s |
//! | `S` | a thousand times: address space reload, `invlpg`, `cpuid`, model-specific registers read and written |
//!
//! `W` is the step that tells. There are hosts whose `/dev/kvm` accepts everything but interprets the guest's kernel code one
//! instruction at a time, some thousand times slower: firmware runs, even long mode and its timer work, a stock kernel seems to
//! hang for ever.

/// Marks of a guest that went all the way.
pub const DONE: &str = "RLTWS";

/// What is said of a guest that stopped before the step with this index in [`DONE`].
pub fn missed(marks: &str) -> &'static str {
    match marks {
        "" => "it did not get as far as its boot sector",
        "R" => "it ran in real mode but did not reach 64-bit mode",
        "RL" => "it reached 64-bit mode but got no timer interrupts",
        "RLT" => "it reached 64-bit mode and its timer, but plain code ran too slowly to be of use",
        "RLTW" => "it ran plain code but not a kernel's privileged instructions",
        _ => "it wrote what it was not made to write",
    }
}

/// The boot sector on a disk of 1 MiB: a BIOS does not boot from a disk smaller than one cylinder, 504 KiB.
pub fn image() -> Vec<u8> {
    let mut disk = vec![0; 1 << 20];
    disk[..CODE.len()].copy_from_slice(CODE);
    disk[510] = 0x55;
    disk[511] = 0xaa;
    disk
}

/// Loaded at 0x7c00. Page tables stand at 0x1000, 0x2000 and 0x3000, the interrupt table at 0x4000.
#[rustfmt::skip]
const CODE: &[u8] = &[
    // 16-bit
    0xea, 0x05, 0x7c, 0x00, 0x00,             // 7c00 jmp 0:7c05               some firmware starts at 07c0:0000
    0xfa,                                     // 7c05 cli
    0x31, 0xc0,                               // 7c06 xor ax, ax
    0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0,       // 7c08 mov ds, es, ss <- ax
    0xbc, 0x00, 0x7c,                         // 7c0e mov sp, 7c00
    0xb0, b'R',                               // 7c11 mov al, 'R'
    0xba, 0xf8, 0x03, 0xee,                   // 7c13 mov dx, 3f8; out dx, al
    0xfc,                                     // 7c17 cld
    0xbf, 0x00, 0x10,                         // 7c18 mov di, 1000
    0x66, 0x31, 0xc0,                         // 7c1b xor eax, eax
    0xb9, 0x00, 0x10,                         // 7c1e mov cx, 1000
    0x66, 0xf3, 0xab,                         // 7c21 rep stosd                16 KiB of zeroes
    0xc7, 0x06, 0x00, 0x10, 0x03, 0x20,       // 7c24 mov [1000], 2003         level 4 -> level 3
    0xc7, 0x06, 0x00, 0x20, 0x03, 0x30,       // 7c2a mov [2000], 3003         level 3 -> level 2
    0xc7, 0x06, 0x00, 0x30, 0x83, 0x00,       // 7c30 mov [3000], 83           level 2: the first 2 MiB as they are
    0x66, 0xb8, 0xe2, 0x7c, 0x00, 0x00,       // 7c36 mov eax, irq
    0xa3, 0x80, 0x40,                         // 7c3c mov [4080], ax           interrupt 8, the timer: where ...
    0xc7, 0x06, 0x82, 0x40, 0x08, 0x00,       // 7c3f mov [4082], 8            ... in which segment ...
    0xc7, 0x06, 0x84, 0x40, 0x00, 0x8e,       // 7c45 mov [4084], 8e00         ... and how
    0x0f, 0x01, 0x16, 0x08, 0x7d,             // 7c4b lgdt [gdtr]
    0x0f, 0x01, 0x1e, 0x0e, 0x7d,             // 7c50 lidt [idtr]
    0x66, 0xb8, 0xa0, 0x00, 0x00, 0x00,       // 7c55 mov eax, a0
    0x0f, 0x22, 0xe0,                         // 7c5b mov cr4, eax             large addresses
    0x66, 0xb8, 0x00, 0x10, 0x00, 0x00,       // 7c5e mov eax, 1000
    0x0f, 0x22, 0xd8,                         // 7c64 mov cr3, eax
    0x66, 0xb9, 0x80, 0x00, 0x00, 0xc0,       // 7c67 mov ecx, c0000080        EFER
    0x0f, 0x32, 0x0d, 0x00, 0x01, 0x0f, 0x30, // 7c6d rdmsr; or ax, 100; wrmsr long mode
    0x0f, 0x20, 0xc0,                         // 7c74 mov eax, cr0
    0x66, 0x0d, 0x01, 0x00, 0x00, 0x80,       // 7c77 or eax, 80000001
    0x0f, 0x22, 0xc0,                         // 7c7d mov cr0, eax             protection and paging
    0xea, 0x85, 0x7c, 0x08, 0x00,             // 7c80 jmp 8:7c85
    // 64-bit
    0x66, 0xb8, 0x10, 0x00,                   // 7c85 mov ax, 10
    0x8e, 0xd8, 0x8e, 0xd0, 0x8e, 0xc0,       // 7c89 mov ds, ss, es <- ax
    0xbc, 0x00, 0x7c, 0x00, 0x00,             // 7c8f mov esp, 7c00
    0x66, 0xba, 0xf8, 0x03,                   // 7c94 mov dx, 3f8
    0xb0, b'L', 0xee,                         // 7c98 out dx, 'L'
    0x31, 0xdb,                               // 7c9b xor ebx, ebx
    0xfb,                                     // 7c9d sti
    0xf4,                                     // 7c9e hlt
    0x83, 0xfb, 0x03,                         // 7c9f cmp ebx, 3
    0x72, 0xfa,                               // 7ca2 jb 7c9e
    0xfa,                                     // 7ca4 cli
    0xb0, b'T', 0xee,                         // 7ca5 out dx, 'T'
    0xb9, 0x00, 0xe1, 0xf5, 0x05,             // 7ca8 mov ecx, 100000000
    0xff, 0xc9, 0x75, 0xfc,                   // 7cad dec ecx; jnz 7cad
    0xb0, b'W', 0xee,                         // 7cb1 out dx, 'W'
    0xbe, 0xe8, 0x03, 0x00, 0x00,             // 7cb4 mov esi, 1000
    0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8,       // 7cb9 mov rax, cr3; mov cr3, rax
    0x0f, 0x01, 0x3c, 0x25, 0, 0, 0, 0,       // 7cbf invlpg [0]
    0x31, 0xc0, 0x0f, 0xa2,                   // 7cc7 xor eax, eax; cpuid
    0xb9, 0x00, 0x01, 0x00, 0xc0,             // 7ccb mov ecx, c0000100        FS base
    0x0f, 0x32, 0x0f, 0x30,                   // 7cd0 rdmsr; wrmsr
    0xff, 0xce, 0x75, 0xe1,                   // 7cd4 dec esi; jnz 7cb9
    0x66, 0xba, 0xf8, 0x03,                   // 7cd8 mov dx, 3f8
    0xb0, b'S', 0xee,                         // 7cdc out dx, 'S'
    0xf4, 0xeb, 0xfd,                         // 7cdf hlt; jmp 7cdf
    0xff, 0xc3, 0x50,                         // 7ce2 irq: inc ebx; push rax
    0xb0, 0x20, 0xe6, 0x20,                   // 7ce5 out 20, 20               end of interrupt
    0x58, 0x48, 0xcf,                         // 7ce9 pop rax; iretq
    0, 0, 0, 0,                               // 7cec
    0, 0, 0, 0, 0, 0, 0, 0,                   // 7cf0 gdt: none
    0, 0, 0, 0, 0, 0x9a, 0x20, 0,             // 7cf8 8: 64-bit code
    0, 0, 0, 0, 0, 0x92, 0, 0,                // 7d00 10: data
    0x17, 0x00, 0xf0, 0x7c, 0x00, 0x00,       // 7d08 gdtr: 24 bytes at 7cf0
    0x8f, 0x00, 0x00, 0x40, 0x00, 0x00,       // 7d0e idtr: 144 bytes at 4000
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_boot_sector_and_its_tables_stand_where_the_code_says() {
        let image = image();
        assert_eq!((image[510], image[511]), (0x55, 0xaa));
        assert!(CODE.len() <= 510);
        assert_eq!(CODE.len(), 0x7d14 - 0x7c00);
        assert_eq!(&CODE[0x85..0x89], &[0x66, 0xb8, 0x10, 0x00], "the far jump ends at the 64-bit code");
        assert_eq!(&CODE[0xe2..0xe5], &[0xff, 0xc3, 0x50], "the interrupt table names the handler");
        assert_eq!(&CODE[0x108..0x10e], &[0x17, 0x00, 0xf0, 0x7c, 0, 0], "gdtr");
        assert_eq!(CODE[0xfd], 0x9a, "the code segment");
    }

    #[test]
    fn every_step_that_can_be_missed_has_its_sentence() {
        let said: Vec<_> = (0..DONE.len()).map(|n| missed(&DONE[..n])).collect();
        for (n, one) in said.iter().enumerate() {
            assert!(!said[n + 1..].contains(one));
            assert_ne!(*one, missed("?"));
        }
    }
}
