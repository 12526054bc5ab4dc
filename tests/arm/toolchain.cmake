# Builds for aarch64 Linux on another machine, against the sysroot that tests/arm/run makes, and runs
# what it built through qemu. ARM_SYSROOT comes from the environment, so that cmake's own trial builds
# have it too.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_SYSROOT $ENV{ARM_SYSROOT})
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64-static -L $ENV{ARM_SYSROOT})

set(CMAKE_FIND_ROOT_PATH $ENV{ARM_SYSROOT})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)

set(ENV{PKG_CONFIG_SYSROOT_DIR} $ENV{ARM_SYSROOT})
set(ENV{PKG_CONFIG_LIBDIR} $ENV{ARM_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig:$ENV{ARM_SYSROOT}/usr/share/pkgconfig)
