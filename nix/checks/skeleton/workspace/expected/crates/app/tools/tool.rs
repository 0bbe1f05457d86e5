#![cfg_attr(any(target_os = "none", target_os = "uefi", target_os = "cuda"), no_std, no_main)]

#[cfg(any(target_os = "none", target_os = "uefi", target_os = "cuda"))]
#[panic_handler]
fn lost(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(not(any(target_os = "none", target_os = "uefi", target_os = "cuda")))]
fn main() {}
