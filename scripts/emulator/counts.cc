// What the session of an emulated board offers beside TVM's own: the instruction counts of count_plugin.c.
//
//   tvm_rsq.counts.reset() -> None   count from 0 again
//   tvm_rsq.counts.read() -> str     the counts as JSON, see count_plugin.c
//
// Both are there only when the environment variable TVM_RSQ_COUNTS names the file that the plugin writes, its `out`.

#include <tvm/ffi/tvm_ffi.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

namespace {

constexpr long kReset = 0x7e5700, kRead = 0x7e5701;  // system calls that only the plugin knows

tvm::ffi::String ReadCounts(const std::string& path) {
  unlink(path.c_str());  // an older one is no answer
  syscall(kRead);
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) {
    TVM_FFI_THROW(RuntimeError) << "the emulator wrote no counts to " << path << "; is its disk full, or its plugin missing?";
  }
  return text.str();
}

}  // namespace

TVM_FFI_STATIC_INIT_BLOCK() {
  using tvm::ffi::Function;
  const char* path = std::getenv("TVM_RSQ_COUNTS");
  if (path == nullptr) return;
  Function::SetGlobal("tvm_rsq.counts.reset", Function::FromTyped([]() { syscall(kReset); }), true);
  Function::SetGlobal("tvm_rsq.counts.read", Function::FromTyped([file = std::string(path)]() { return ReadCounts(file); }), true);
}
