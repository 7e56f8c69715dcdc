// Kernels for XLA's CPU programs, as FFI handlers: a convolution's three maps on oneDNN, and the sums a channel that
// batch normalization needs. All are float32.
//
// Activations are channels last in memory. The callers ask XLA for that layout, and XLA carries it through the
// pointwise work between two kernels, so that nothing is reordered on the way: oneDNN's own blocked layouts would cost
// a pass over the data before and after each convolution.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <unordered_map>
#include <vector>

#include <omp.h>

#include "oneapi/dnnl/dnnl.hpp"
#include "xla/ffi/api/ffi.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define EACH_CPU __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define EACH_CPU
#endif

namespace ffi = xla::ffi;
using dnnl::memory;
using Dims = memory::dims;
using Span = ffi::Span<const int64_t>;
using In = ffi::Buffer<ffi::F32>;
using Out = ffi::ResultBuffer<ffi::F32>;

namespace {

// ---- convolution ---------------------------------------------------------------------------------------------------

// Leaked, as is all that lives long here: kernels may run while the process ends.
dnnl::engine& Engine() {
  static auto* engine = new dnnl::engine(dnnl::engine::kind::cpu, 0);
  return *engine;
}

// Row-major, as weights are.
memory::desc Plain(const Dims& d) {
  const memory::format_tag tags[] = {memory::format_tag::abc, memory::format_tag::abcd, memory::format_tag::abcde,
                                     memory::format_tag::abcdef};
  return memory::desc(d, memory::data_type::f32, tags[d.size() - 3]);
}

// Channels last, as activations are.
memory::desc Last(const Dims& d) {
  const memory::format_tag tags[] = {memory::format_tag::acb, memory::format_tag::acdb, memory::format_tag::acdeb};
  return memory::desc(d, memory::data_type::f32, tags[d.size() - 3]);
}

memory::desc Any(const Dims& d) { return memory::desc(d, memory::data_type::f32, memory::format_tag::any); }

// One argument: as XLA holds it, as the primitive wants it, and the way between.
struct Side {
  memory::desc outer, inner;
  dnnl::reorder way;
  int name = 0;
  bool moves = false;

  void Set(int argument, const memory::desc& outside, const memory::desc& inside, bool result) {
    name = argument, outer = outside, inner = inside, moves = outside != inside;
    if (moves) {
      way = result ? dnnl::reorder({Engine(), inner, Engine(), outer}) : dnnl::reorder({Engine(), outer, Engine(), inner});
    }
  }
};

struct Kernel {
  dnnl::primitive primitive;
  Side left, right, result;
  memory::desc scratch;
  std::string name;
};

// Which of the three maps.
enum Map : int64_t { kForward, kInputGradient, kWeightGradient };

struct Shapes {
  Dims x, w, y, stride, dilation, low, high;
};

Kernel Make(int64_t map, const Shapes& s) {
  const auto how = dnnl::algorithm::convolution_direct;
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  const dnnl::convolution_forward::primitive_desc forward(Engine(), dnnl::prop_kind::forward_training, how, Last(s.x),
                                                          Any(s.w), Last(s.y), s.stride, s.dilation, s.low, s.high,
                                                          attr);
  Kernel k;
  if (map == kForward) {
    k.primitive = dnnl::convolution_forward(forward);
    k.left.Set(DNNL_ARG_SRC, Last(s.x), forward.src_desc(), false);
    k.right.Set(DNNL_ARG_WEIGHTS, Plain(s.w), forward.weights_desc(), false);
    k.result.Set(DNNL_ARG_DST, Last(s.y), forward.dst_desc(), true);
    k.scratch = forward.scratchpad_desc();
    k.name = forward.impl_info_str();
  } else if (map == kInputGradient) {
    const dnnl::convolution_backward_data::primitive_desc back(Engine(), how, Last(s.x), Any(s.w), Last(s.y), s.stride,
                                                               s.dilation, s.low, s.high, forward, attr);
    k.primitive = dnnl::convolution_backward_data(back);
    k.left.Set(DNNL_ARG_DIFF_DST, Last(s.y), back.diff_dst_desc(), false);
    k.right.Set(DNNL_ARG_WEIGHTS, Plain(s.w), back.weights_desc(), false);
    k.result.Set(DNNL_ARG_DIFF_SRC, Last(s.x), back.diff_src_desc(), true);
    k.scratch = back.scratchpad_desc();
    k.name = back.impl_info_str();
  } else {
    const dnnl::convolution_backward_weights::primitive_desc back(Engine(), how, Last(s.x), Any(s.w), Last(s.y),
                                                                  s.stride, s.dilation, s.low, s.high, forward, attr);
    k.primitive = dnnl::convolution_backward_weights(back);
    k.left.Set(DNNL_ARG_SRC, Last(s.x), back.src_desc(), false);
    k.right.Set(DNNL_ARG_DIFF_DST, Last(s.y), back.diff_dst_desc(), false);
    k.result.Set(DNNL_ARG_DIFF_WEIGHTS, Plain(s.w), back.diff_weights_desc(), true);
    k.scratch = back.scratchpad_desc();
    k.name = back.impl_info_str();
  }
  return k;
}

// So many threads as have `each` of the work, at least, of those that OpenMP has: to wake one takes as long as some
// small work does, and where another program has its core, all wait for it.
int ThreadsFor(double work, double each) {
  return static_cast<int>(std::clamp(work / each, 1.0, static_cast<double>(omp_get_max_threads())));
}

// A convolution's threads, by its multiply-adds.
int ThreadsFor(const Shapes& s) {
  double work = 1.0 / s.y[1];
  for (const Dims* dims : {&s.y, &s.w}) {
    for (int64_t size : *dims) work *= size;
  }
  return ThreadsFor(work, 1 << 24);
}

// Has oneDNN take so many threads. A primitive is run with as many as it was made for.
class Threads {
 public:
  explicit Threads(int count) : before_(omp_get_max_threads()) { omp_set_num_threads(count); }
  ~Threads() { omp_set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

// oneDNN's primitives and the memory they work in are shared: one convolution at a time.
std::mutex& Lock() {
  static auto* lock = new std::mutex;
  return *lock;
}

struct Hash {
  size_t operator()(const std::vector<int64_t>& key) const {
    size_t h = 1469598103934665603u;
    for (int64_t v : key) h = (h ^ static_cast<size_t>(v)) * 1099511628211u;
    return h;
  }
};

// The kernel of a map and shapes, made once. Past the limit all are dropped: a program that has so many runs few twice.
const Kernel& Find(int64_t map, const Shapes& s) {
  constexpr size_t kMost = 4096;
  static auto* kernels = new std::unordered_map<std::vector<int64_t>, std::unique_ptr<Kernel>, Hash>;
  std::vector<int64_t> key{map};
  for (const Dims* dims : {&s.x, &s.w, &s.y, &s.stride, &s.dilation, &s.low, &s.high}) {
    key.push_back(static_cast<int64_t>(dims->size()));
    key.insert(key.end(), dims->begin(), dims->end());
  }
  auto found = kernels->find(key);
  if (found == kernels->end()) {
    auto made = std::make_unique<Kernel>(Make(map, s));
    if (kernels->size() >= kMost) kernels->clear();
    found = kernels->emplace(std::move(key), std::move(made)).first;
  }
  return *found->second;
}

// Memory for what a kernel needs beside its arguments: kept, because pages that are given back cost more than the work
// of a small kernel. Used under the lock.
void* Room(int slot, size_t size) {
  struct Block {
    void* data = nullptr;
    size_t size = 0;
  };
  static auto* blocks = new Block[4];
  Block& block = blocks[slot];
  if (size > block.size) {
    std::free(block.data);
    block.size = 0;
    size = (size + 4095) / 4096 * 4096;
    block.data = std::aligned_alloc(64, size);
    if (!block.data) throw std::bad_alloc();
    block.size = size;
  }
  return block.data;
}

Dims List(Span values) { return Dims(values.begin(), values.end()); }

// As oneDNN counts: groups are a dim of the weight, a dilation is the holes.
Shapes Told(Dims x, Dims w, Dims y, int64_t groups, Dims stride, Dims dilation, Dims low, Dims high) {
  if (groups > 1) {
    w[0] /= groups;
    w.insert(w.begin(), groups);
  }
  for (auto& d : dilation) --d;
  return {std::move(x), std::move(w), std::move(y), std::move(stride), std::move(dilation), std::move(low), std::move(high)};
}

ffi::Error Convolve(In a, In b, Out out, int64_t map, int64_t groups, Span stride, Span dilation, Span low, Span high) {
  const Dims left = List(a.dimensions()), right = List(b.dimensions()), result = List(out->dimensions());
  try {
    const Shapes s = Told(map == kInputGradient ? result : left, map == kWeightGradient ? result : right,
                          map == kForward          ? result
                          : map == kInputGradient ? left
                                                  : right,
                          groups, List(stride), List(dilation), List(low), List(high));
    std::lock_guard<std::mutex> hold(Lock());
    const Threads threads(ThreadsFor(s));
    const Kernel& kernel = Find(map, s);
    dnnl::stream stream(Engine());
    std::unordered_map<int, memory> args;
    auto inside = [&](const Side& side, int slot, const memory& outside) {
      return side.moves ? memory(side.inner, Engine(), Room(slot, side.inner.get_size())) : outside;
    };
    auto enter = [&](const Side& side, int slot, void* data) {
      memory outer(side.outer, Engine(), data), inner = inside(side, slot, outer);
      if (side.moves) side.way.execute(stream, outer, inner);
      args[side.name] = inner;
    };
    enter(kernel.left, 0, a.untyped_data());
    enter(kernel.right, 1, b.untyped_data());
    memory outer(kernel.result.outer, Engine(), out->untyped_data());
    memory inner = inside(kernel.result, 2, outer);
    args[kernel.result.name] = inner;
    args[DNNL_ARG_SCRATCHPAD] = memory(kernel.scratch, Engine(), Room(3, kernel.scratch.get_size()));
    kernel.primitive.execute(stream, args);
    if (kernel.result.moves) kernel.result.way.execute(stream, inner, outer);
    stream.wait();
  } catch (const std::exception& error) {
    return ffi::Error::Internal(std::string("oneDNN: ") + error.what());
  }
  return ffi::Error::Success();
}

// ---- sums a channel ------------------------------------------------------------------------------------------------

// Rows of `width` floats are summed a block at a time in float, so that a block stays in the nearest cache, and the
// blocks in double.
constexpr int64_t kBlock = 4096;

// total[c] += the sum of the rows' c.
EACH_CPU void AddRows(const float* __restrict x, int64_t rows, int64_t width, float* __restrict total) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4, x += 4 * width) {
    for (int64_t c = 0; c < width; ++c) {
      total[c] += (x[c] + x[width + c]) + (x[2 * width + c] + x[3 * width + c]);
    }
  }
  for (; r < rows; ++r, x += width) {
    for (int64_t c = 0; c < width; ++c) total[c] += x[c];
  }
}

// total[c] += the sum of the rows' c, less center[c]; square[c] += that of its squares.
EACH_CPU void AddDeviations(const float* __restrict x, int64_t rows, int64_t width, const float* __restrict center,
                            float* __restrict total, float* __restrict square) {
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4, x += 4 * width) {
    for (int64_t c = 0; c < width; ++c) {
      const float at = center[c];
      const float p = x[c] - at, q = x[width + c] - at, s = x[2 * width + c] - at, t = x[3 * width + c] - at;
      total[c] += (p + q) + (s + t);
      square[c] += (p * p + q * q) + (s * s + t * t);
    }
  }
  for (; r < rows; ++r, x += width) {
    for (int64_t c = 0; c < width; ++c) {
      const float p = x[c] - center[c];
      total[c] += p;
      square[c] += p * p;
    }
  }
}

// total[c] += the sum of the rows' c of g; product[c] += that of g * (x - center[c]).
EACH_CPU void AddProducts(const float* __restrict g, const float* __restrict x, int64_t rows, int64_t width,
                          const float* __restrict center, float* __restrict total, float* __restrict product) {
  int64_t r = 0;
  for (; r + 2 <= rows; r += 2, x += 2 * width, g += 2 * width) {
    for (int64_t c = 0; c < width; ++c) {
      const float at = center[c], p = g[c], q = g[width + c];
      total[c] += p + q;
      product[c] += p * (x[c] - at) + q * (x[width + c] - at);
    }
  }
  for (; r < rows; ++r, x += width, g += width) {
    for (int64_t c = 0; c < width; ++c) {
      total[c] += g[c];
      product[c] += g[c] * (x[c] - center[c]);
    }
  }
}

// An array of channels-last rows, taken a block of rows at a time. Rows of few channels are taken several together, as
// one row of as many floats as fill registers: lane l is channel l % channels.
struct Rows {
  int64_t channels, width, wide, rest, block, blocks;

  Rows(int64_t size, int64_t channels) : channels(channels) {
    const int64_t rows = size / channels, together = std::max<int64_t>(1, 64 / channels);
    width = together * channels;
    wide = rows / together, rest = rows % together;
    block = std::max<int64_t>(16, kBlock / width);
    blocks = (wide + block - 1) / block;
  }

  std::vector<float> Tiled(const float* a) const {
    std::vector<float> tiled(width);
    for (int64_t c = 0; c < width; ++c) tiled[c] = a[c % channels];
    return tiled;
  }

  // Two totals a channel, first all channels' first. visit(offset, rows, width, a, b, totals) adds those of a block of
  // rows; a and b are `width` floats of zeros. Threads have totals of their own, which are added in order.
  template <typename Visit>
  std::vector<double> Each(const Visit& visit) const {
    const size_t size = 2 * channels;
    const int threads = ThreadsFor(blocks, 64);
    std::vector<double> totals(size * threads, 0.0);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
      double* own = totals.data() + size * omp_get_thread_num();
      std::vector<float> room(2 * width);
#pragma omp for schedule(static)
      for (int64_t b = 0; b < blocks; ++b) {
        std::fill(room.begin(), room.end(), 0.0f);
        visit(b * block * width, std::min(block, wide - b * block), width, room.data(), room.data() + width, own);
      }
    }
    if (rest) {
      std::vector<float> room(2 * channels, 0.0f);
      visit(wide * width, rest, channels, room.data(), room.data() + channels, totals.data());
    }
    for (size_t i = size; i < totals.size(); ++i) totals[i % size] += totals[i];
    totals.resize(size);
    return totals;
  }
};

// x, channels last -> each channel's mean and biased variance.
ffi::Error Moments(In x, Out mean, Out variance) {
  const Rows rows(x.element_count(), mean->element_count());
  const int64_t channels = rows.channels, each = x.element_count() / channels;
  const float* data = x.typed_data();
  // Sums are taken around values near the mean, each block's around its own, so that nothing is lost where the mean is
  // large beside the deviation.
  std::vector<float> near(channels, 0.0f);
  const int64_t first = std::min<int64_t>(each, 16);
  AddRows(data, first, channels, near.data());
  for (auto& v : near) v /= first;
  const auto totals = rows.Each([&](int64_t at, int64_t n, int64_t width, float* a, float* b, double* totals) {
    AddRows(data + at, n, width, a);
    std::vector<float> center(a, a + width);
    for (auto& v : center) v /= n;
    std::fill(a, a + width, 0.0f);
    AddDeviations(data + at, n, width, center.data(), a, b);
    for (int64_t l = 0, c = 0; l < width; ++l, c = c + 1 == channels ? 0 : c + 1) {
      const double moved = double(center[l]) - near[c];
      totals[c] += a[l] + n * moved;
      totals[channels + c] += b[l] + moved * (2.0 * a[l] + n * moved);
    }
  });
  for (int64_t c = 0; c < channels; ++c) {
    const double moved = totals[c] / each, square = totals[channels + c] / each - moved * moved;
    double middle = near[c] + moved;
    if (std::isnan(middle)) {  // infinities: their differences are no numbers, their sum may be one
      middle = 0;
      for (int64_t r = 0; r < each; ++r) middle += data[r * channels + c];
      middle /= each;
    }
    mean->typed_data()[c] = static_cast<float>(middle);
    variance->typed_data()[c] = static_cast<float>(square < 0 ? 0 : square);
  }
  return ffi::Error::Success();
}

// g and x, channels last, and each channel's mean -> each channel's sums of g and of g * (x - mean).
ffi::Error Products(In g, In x, In mean, Out total, Out product) {
  const Rows rows(x.element_count(), mean.element_count());
  const int64_t channels = rows.channels;
  const auto center = rows.Tiled(mean.typed_data());
  const auto totals = rows.Each([&](int64_t at, int64_t n, int64_t width, float* a, float* b, double* totals) {
    AddProducts(g.typed_data() + at, x.typed_data() + at, n, width, center.data(), a, b);
    for (int64_t l = 0, c = 0; l < width; ++l, c = c + 1 == channels ? 0 : c + 1) {
      totals[c] += a[l];
      totals[channels + c] += b[l];
    }
  });
  for (int64_t c = 0; c < channels; ++c) {
    total->typed_data()[c] = static_cast<float>(totals[c]);
    product->typed_data()[c] = static_cast<float>(totals[channels + c]);
  }
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(jtorch_convolution, Convolve,
                              ffi::Ffi::Bind()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<int64_t>("map")
                                  .Attr<int64_t>("groups")
                                  .Attr<Span>("stride")
                                  .Attr<Span>("dilation")
                                  .Attr<Span>("low")
                                  .Attr<Span>("high"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(jtorch_moments, Moments,
                              ffi::Ffi::Bind()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(jtorch_products, Products,
                              ffi::Ffi::Bind()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>());

// The name of the implementation that oneDNN takes for a map ("jit:avx512_core", "ref:any" ...), in memory of the
// thread's; empty where it has none. dims: x, w, y with the batch and channels, then stride, dilation, low, high.
extern "C" const char* jtorch_convolution_name(int64_t map, int64_t spatial, int64_t groups, const int64_t* dims) {
  static thread_local std::string name;
  auto next = [&](int64_t n) {
    Dims list(dims, dims + n);
    dims += n;
    return list;
  };
  const Dims x = next(spatial + 2), w = next(spatial + 2), y = next(spatial + 2);
  const Dims stride = next(spatial), dilation = next(spatial), low = next(spatial), high = next(spatial);
  try {
    std::lock_guard<std::mutex> hold(Lock());
    const Shapes s = Told(x, w, y, groups, stride, dilation, low, high);
    const Threads threads(ThreadsFor(s));
    name = Find(map, s).name;
  } catch (const std::exception&) {
    name.clear();
  }
  return name.c_str();
}
