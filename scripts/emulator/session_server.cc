// One TVM RPC session of an emulated board, on a socket that is inherited and past its handshake:  session_server FD FOLDER
//
// Uploads lie in FOLDER and cannot leave it; a file is there whole or not at all. The process ends with the session: whatever becomes of
// the code that it runs, the board's own process goes on.

#include <fcntl.h>
#include <signal.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/tvm_ffi.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

namespace {

namespace fs = std::filesystem;
using tvm::ffi::Any;
using tvm::ffi::Function;
using tvm::ffi::Module;
using tvm::ffi::PackedArgs;
using tvm::ffi::String;

fs::path folder;

// The file that a client calls `name`. The same rule is in tvm_rsq/remote/session_folder.py.
fs::path Inside(const std::string& name) {
  const fs::path relative(name);
  bool leaves = relative.is_absolute() || name.empty() || name.find('\0') != std::string::npos;
  for (const fs::path& part : relative) leaves = leaves || part == "..";
  if (leaves) {
    TVM_FFI_THROW(ValueError) << "the path '" << name << "' leaves the session's folder, expected a name inside it";
  }
  return folder / relative;
}

[[noreturn]] void RefuseUpload(const std::string& name, size_t bytes, int error) {
  TVM_FFI_THROW(RuntimeError) << "cannot store " << name << " (" << bytes << " bytes) on the board: " << std::strerror(error);
  std::abort();  // not reached
}

void Upload(const std::string& name, const std::string& data) {
  const fs::path path = Inside(name);
  const std::string partial = path.string() + ".partial";
  const int file = open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
  int error = file < 0 ? errno : 0;
  for (size_t done = 0; error == 0 && done < data.size();) {
    const ssize_t written = write(file, data.data() + done, data.size() - done);
    if (written >= 0) {
      done += static_cast<size_t>(written);
    } else if (errno != EINTR) {
      error = errno;
    }
  }
  if (file >= 0 && close(file) != 0 && error == 0) error = errno;
  if (error == 0 && rename(partial.c_str(), path.c_str()) != 0) error = errno;
  if (error != 0) {
    unlink(partial.c_str());
    RefuseUpload(name, data.size(), error);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s FD FOLDER\n", argv[0]);
    return 2;
  }
  folder = argv[2];
  signal(SIGXFSZ, SIG_IGN);  // a file that grows too large is an error of write, not the end
  Function::SetGlobal("tvm.rpc.server.workpath",
                      Function::FromTyped([](String name) -> String { return Inside(std::string(name)).string(); }), true);
  Function::SetGlobal("tvm.rpc.server.load_module",
                      Function::FromTyped([](String name) -> Module { return Module::LoadFromFile(Inside(std::string(name)).string()); }),
                      true);
  Function::SetGlobal("tvm.rpc.server.upload", Function::FromPacked([](PackedArgs args, Any*) {
                        Upload(args[0].cast<std::string>(), args[1].cast<std::string>());
                      }),
                      true);
  try {
    Function::GetGlobalRequired("rpc.ServerLoop")(static_cast<int64_t>(std::atoi(argv[1])));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    _exit(1);
  }
  _exit(0);  // not exit: TVM's worker threads may still be there
}
