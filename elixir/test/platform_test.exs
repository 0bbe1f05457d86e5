defmodule CargoNixcache.PlatformTest do
  use ExUnit.Case, async: true

  alias CargoNixcache.Platform

  test "systems have Rust's names" do
    for {os, system, wordsize, triple} <- [
          {{:unix, :linux}, "x86_64-pc-linux-gnu", 8, "x86_64-unknown-linux-gnu"},
          {{:unix, :linux}, "aarch64-unknown-linux-gnu", 8, "aarch64-unknown-linux-gnu"},
          {{:unix, :linux}, "x86_64-alpine-linux-musl", 8, "x86_64-unknown-linux-musl"},
          {{:unix, :linux}, "arm-unknown-linux-gnueabihf", 4, "arm-unknown-linux-gnueabihf"},
          {{:unix, :linux}, "riscv64-unknown-linux-gnu", 8, "riscv64gc-unknown-linux-gnu"},
          {{:unix, :linux}, "amd64-redhat-linux", 8, "x86_64-unknown-linux-gnu"},
          {{:unix, :darwin}, "aarch64-apple-darwin23.1.0", 8, "aarch64-apple-darwin"},
          {{:unix, :freebsd}, "amd64-portbld-freebsd13.2", 8, "x86_64-unknown-freebsd"},
          {{:win32, :nt}, "win32", 8, "x86_64-pc-windows-msvc"}
        ] do
      assert Platform.triple(os, system, wordsize) == triple
    end
  end
end
