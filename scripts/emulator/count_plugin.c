// A plugin of qemu's user emulation that counts the instructions executed inside some files: exactly repeatable with one guest thread.
//
//   qemu-aarch64 -plugin libcount.so,match=TEXT[,match=TEXT...],out=FILE ...
//
// Counted is what lies in a file whose path contains one of the TEXTs. The guest says when, by two system calls that no kernel has:
//   syscall(0x7e5700)   start again from 0
//   syscall(0x7e5701)   write FILE: {"schema": 1, "kinds": {kind: n}, "files": [name], "blocks": [[file, offset, executions, hex code]]}
// The counter is one addition at the head of each block, which the emulator compiles in: the guest is hardly slower for it.

#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "instruction_kinds.h"
#include "plugin_interface.h"

enum { RESET = 0x7e5700, READ = 0x7e5701 };
enum { MUNMAP = 215, MMAP = 222, MPROTECT = 226 };  // of aarch64
enum { MAX_MATCHES = 8, BUCKETS = 1 << 14 };

typedef struct Block {
  char* path;
  uint64_t offset, executions;
  uint64_t read;  // executions when they were asked for; another thread of the guest may go on meanwhile
  size_t instructions;
  uint32_t* code;
  uint32_t of_kind[KINDS];
  struct Block* next;
} Block;

typedef struct { uint64_t begin, end, offset; char* path; } Mapping;

static const char* matches[MAX_MATCHES];
static int match_count;
static const char* out;
static Block* buckets[BUCKETS];
static Mapping* mappings;
static size_t mapping_count, mapping_room;
static bool stale = true;  // mappings are to be read again
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void* checked(void* memory) {
  if (!memory) {
    fputs("the counting plugin has no memory left\n", stderr);
    exit(1);
  }
  return memory;
}

static void classify(Block* block) {
  for (size_t i = 0; i < block->instructions; i++) {
    uint32_t kinds = kinds_of(block->code[i]);
    for (int kind = 0; kind < KINDS; kind++) block->of_kind[kind] += kinds >> kind & 1;
  }
}

static void read_mappings(void) {
  FILE* file = fopen("/proc/self/maps", "r");
  char line[4352];
  for (size_t i = 0; i < mapping_count; i++) free(mappings[i].path);
  mapping_count = 0;
  while (file && fgets(line, sizeof line, file)) {
    Mapping found;
    int path = 0;
    line[strcspn(line, "\n")] = 0;
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %*s %*s %n", &found.begin, &found.end, &found.offset, &path) != 3) continue;
    if (!path || line[path] != '/') continue;
    if (mapping_count == mapping_room) {
      mapping_room = mapping_room ? 2 * mapping_room : 256;
      mappings = checked(realloc(mappings, mapping_room * sizeof *mappings));
    }
    found.path = checked(strdup(line + path));
    mappings[mapping_count++] = found;
  }
  if (file) fclose(file);
  stale = false;
}

static const Mapping* mapping_of(uint64_t address) {
  if (stale) read_mappings();
  for (size_t i = 0; i < mapping_count; i++) {
    if (mappings[i].begin <= address && address < mappings[i].end) return &mappings[i];
  }
  return NULL;
}

static bool is_counted(const char* path) {
  for (int i = 0; i < match_count; i++) {
    if (strstr(path, matches[i])) return true;
  }
  return false;
}

// The block of this code, which is translated anew now and then; one that a new file of the same name brings is another.
static Block* block_of(const char* path, uint64_t offset, size_t instructions, const uint32_t* code) {
  Block** bucket = &buckets[(offset >> 2 ^ instructions << 9) % BUCKETS];
  size_t bytes = instructions * sizeof *code;
  for (Block* block = *bucket; block; block = block->next) {
    if (block->offset == offset && block->instructions == instructions && !strcmp(block->path, path) && !memcmp(block->code, code, bytes)) {
      return block;
    }
  }
  Block* block = checked(calloc(1, sizeof *block));
  block->path = checked(strdup(path)), block->offset = offset, block->instructions = instructions;
  block->code = memcpy(checked(malloc(bytes)), code, bytes);
  classify(block);
  block->next = *bucket, *bucket = block;
  return block;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb* translation) {
  (void)id;
  size_t instructions = qemu_plugin_tb_n_insns(translation);
  uint64_t address = (uint64_t)qemu_plugin_insn_haddr(qemu_plugin_tb_get_insn(translation, 0));
  pthread_mutex_lock(&lock);
  const Mapping* mapping = mapping_of(address);
  if (mapping && is_counted(mapping->path)) {
    uint32_t* code = checked(malloc(instructions * sizeof *code));
    for (size_t i = 0; i < instructions; i++) memcpy(code + i, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(translation, i)), sizeof *code);
    Block* block = block_of(mapping->path, address - mapping->begin + mapping->offset, instructions, code);
    free(code);
    qemu_plugin_register_vcpu_tb_exec_inline(translation, INLINE_ADD_U64, &block->executions, 1);
  }
  pthread_mutex_unlock(&lock);
}

static void reset(void) {
  for (int i = 0; i < BUCKETS; i++) {
    for (Block* block = buckets[i]; block; block = block->next) block->executions = 0;
  }
}

static size_t file_index(const char** files, size_t* count, const char* path) {
  for (size_t i = 0; i < *count; i++) {
    if (!strcmp(files[i], path)) return i;
  }
  files[*count] = path;
  return (*count)++;
}

static void write_text(FILE* file, const char* text) {
  fputc('"', file);
  for (; *text; text++) {
    if (*text == '"' || *text == '\\') fputc('\\', file);
    fputc((unsigned char)*text < ' ' ? '?' : *text, file);
  }
  fputc('"', file);
}

// A file that cannot be written is missing, which the guest sees.
static void write_counts(void) {
  uint64_t all = 0, of_kind[KINDS] = {0};
  size_t executed = 0, file_count = 0;
  for (int i = 0; i < BUCKETS; i++) {
    for (Block* block = buckets[i]; block; block = block->next) {
      block->read = block->executions;
      executed += block->read > 0;
      all += block->read * block->instructions;
      for (int kind = 0; kind < KINDS; kind++) of_kind[kind] += block->read * block->of_kind[kind];
    }
  }
  const char** files = checked(malloc((executed + 1) * sizeof *files));
  FILE* file = fopen(out, "w");
  if (!file) {
    fprintf(stderr, "the counting plugin cannot write %s\n", out);
    free(files);
    return;
  }
  fprintf(file, "{\"schema\": 1, \"kinds\": {\"all\": %" PRIu64, all);
  for (int kind = 0; kind < KINDS; kind++) fprintf(file, ", \"%s\": %" PRIu64, NAMES[kind], of_kind[kind]);
  fputs("}, \"blocks\": [", file);
  const char* separator = "";
  for (int i = 0; i < BUCKETS; i++) {
    for (Block* block = buckets[i]; block; block = block->next) {
      if (!block->read) continue;
      size_t index = file_index(files, &file_count, block->path);
      fprintf(file, "%s[%zu, %" PRIu64 ", %" PRIu64 ", \"", separator, index, block->offset, block->read);
      const unsigned char* bytes = (const unsigned char*)block->code;
      for (size_t j = 0; j < block->instructions * sizeof *block->code; j++) fprintf(file, "%02x", bytes[j]);
      fputs("\"]", file);
      separator = ", ";
    }
  }
  fputs("], \"files\": [", file);
  for (size_t i = 0; i < file_count; i++) {
    if (i) fputs(", ", file);
    write_text(file, strrchr(files[i], '/') + 1);
  }
  fputs("]}\n", file);
  if (fclose(file)) remove(out);
  free(files);
}

static void entered(qemu_plugin_id_t id, unsigned cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f,
                    uint64_t g, uint64_t h) {
  (void)id, (void)cpu, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
  if (number != RESET && number != READ) return;
  pthread_mutex_lock(&lock);
  number == RESET ? reset() : write_counts();
  pthread_mutex_unlock(&lock);
}

static void returned(qemu_plugin_id_t id, unsigned cpu, int64_t number, int64_t result) {
  (void)id, (void)cpu, (void)result;
  if (number != MMAP && number != MUNMAP && number != MPROTECT) return;
  pthread_mutex_lock(&lock);
  stale = true;
  pthread_mutex_unlock(&lock);
}

EXPORTED int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t* info, int count, char** words) {
  (void)info;
  for (int i = 0; i < count; i++) {
    if (!strncmp(words[i], "match=", 6) && words[i][6] && match_count < MAX_MATCHES) {
      matches[match_count++] = checked(strdup(words[i] + 6));
    } else if (!strncmp(words[i], "out=", 4) && words[i][4]) {
      out = checked(strdup(words[i] + 4));
    } else {
      fprintf(stderr, "the counting plugin got %s, expected match=TEXT or out=FILE\n", words[i]);
      return 1;
    }
  }
  if (!match_count || !out) {
    fputs("the counting plugin needs match=TEXT and out=FILE\n", stderr);
    return 1;
  }
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_vcpu_syscall_cb(id, entered);
  qemu_plugin_register_vcpu_syscall_ret_cb(id, returned);
  return 0;
}
