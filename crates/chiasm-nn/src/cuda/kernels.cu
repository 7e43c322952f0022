// What is not a product of matrices. Compiled by NVRTC on the machine itself, once for every width of attention heads, which is the
// macro HEAD. Rows are numbered in 32 bits, numbers in 64. States between blocks are float; what goes into products is float or bf16,
// each kernel has both.

struct bf16 {
    unsigned short bits;
};

__device__ inline float wide(float v) { return v; }
__device__ inline float wide(bf16 v) { return __uint_as_float((unsigned)v.bits << 16); }

__device__ inline void put(float* to, float v) { *to = v; }
// To the nearest, ties to even; what is not a number stays so.
__device__ inline void put(bf16* to, float v) {
    unsigned u = __float_as_uint(v);
    to->bits = (u & 0x7fffffffu) > 0x7f800000u ? 0x7fff : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
}

// Minus infinity.
__device__ inline float nothing() { return __int_as_float((int)0xff800000u); }

// Four numbers side by side, for loads and stores in one piece.
template <class T>
struct alignas(4 * sizeof(T)) Four {
    T v[4];
};

__device__ inline float warp_sum(float v) {
    for (int far = 16; far > 0; far /= 2) v += __shfl_xor_sync(0xffffffffu, v, far);
    return v;
}

__device__ inline float warp_max(float v) {
    for (int far = 16; far > 0; far /= 2) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, far));
    return v;
}

// Layer normalisation, a warp for each row of x, [n, dim]; to out, and in place too if asked.
template <class T>
__device__ void layer_norm(float* x, const float* scale, const float* shift, float eps, int n, int dim, T* out, int in_place) {
    int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= n) return;
    float* at = x + (size_t)row * dim;
    T* to = out + (size_t)row * dim;
    // Rows begin at multiples of 16 bytes only where the width allows it.
    int fours = dim % 4 == 0 ? dim / 4 : 0;
    float sum = 0;
#pragma unroll 4
    for (int c = lane; c < fours; c += 32) {
        Four<float> a = ((const Four<float>*)at)[c];
        sum += (a.v[0] + a.v[1]) + (a.v[2] + a.v[3]);
    }
    for (int c = 4 * fours + lane; c < dim; c += 32) sum += at[c];
    float mean = warp_sum(sum) / dim;
    // The mean is taken away before squaring: the one-pass formula loses the variance of rows far from zero.
    float squares = 0;
#pragma unroll 4
    for (int c = lane; c < fours; c += 32) {
        Four<float> a = ((const Four<float>*)at)[c];
        for (int i = 0; i < 4; i++) squares += (a.v[i] - mean) * (a.v[i] - mean);
    }
    for (int c = 4 * fours + lane; c < dim; c += 32) squares += (at[c] - mean) * (at[c] - mean);
    float inverse = 1.0f / sqrtf(warp_sum(squares) / dim + eps);
#pragma unroll 4
    for (int c = lane; c < fours; c += 32) {
        Four<float> a = ((const Four<float>*)at)[c], b = ((const Four<float>*)scale)[c], s = ((const Four<float>*)shift)[c];
        Four<T> y;
        for (int i = 0; i < 4; i++) {
            a.v[i] = (a.v[i] - mean) * inverse * b.v[i] + s.v[i];
            put(&y.v[i], a.v[i]);
        }
        if (in_place) ((Four<float>*)at)[c] = a;
        ((Four<T>*)to)[c] = y;
    }
    for (int c = 4 * fours + lane; c < dim; c += 32) {
        float v = (at[c] - mean) * inverse * scale[c] + shift[c];
        if (in_place) at[c] = v;
        put(to + c, v);
    }
}

extern "C" __global__ void layer_norm_f32(float* x, const float* scale, const float* shift, float eps, int n, int dim, float* out, int in_place) {
    layer_norm(x, scale, shift, eps, n, dim, out, in_place);
}
extern "C" __global__ void layer_norm_bf16(float* x, const float* scale, const float* shift, float eps, int n, int dim, bf16* out, int in_place) {
    layer_norm(x, scale, shift, eps, n, dim, out, in_place);
}

__device__ inline float sigmoid(float v) { return 1.0f / (1.0f + expf(-v)); }

// The functions of chiasm_nn::Activation, in its order.
__device__ inline float activated(float v, int kind) {
    switch (kind) {
        case 1: return fmaxf(v, 0.0f);
        case 2: return fminf(fmaxf(v, 0.0f), 6.0f);
        case 3: return 0.5f * v * (1.0f + erff(v * 0.70710678f));
        case 4: return v * sigmoid(1.5957691f * (v + 0.044715f * v * v * v));
        case 5: return v * sigmoid(1.702f * v);
        case 6: return v * sigmoid(v);
        case 7: return tanhf(v);
        default: return v;
    }
}

// Adds the bias to a row of x, [n, dim], and applies the function, in place. Blocks (row, part of the columns), eight columns a thread.
template <class T>
__device__ void activate(T* x, const float* bias, int dim, int kind) {
    T* row = x + (size_t)blockIdx.x * dim;
    int first = (blockIdx.y * blockDim.x + threadIdx.x) * 8;
    if (dim % 8 == 0) {
        if (first >= dim) return;
        Four<T>* at = (Four<T>*)(row + first);
        const Four<float>* add = (const Four<float>*)(bias + first);
        Four<T> halves[2] = {at[0], at[1]};
        for (int h = 0; h < 2; h++) {
            Four<float> b = add[h];
            for (int i = 0; i < 4; i++) put(&halves[h].v[i], activated(wide(halves[h].v[i]) + b.v[i], kind));
            at[h] = halves[h];
        }
    } else {
        for (int c = first; c < first + 8 && c < dim; c++) put(row + c, activated(wide(row[c]) + bias[c], kind));
    }
}

extern "C" __global__ void activate_f32(float* x, const float* bias, int dim, int kind) { activate(x, bias, dim, kind); }
extern "C" __global__ void activate_bf16(bf16* x, const float* bias, int dim, int kind) { activate(x, bias, dim, kind); }

// n numbers to those that go into products.
template <class T>
__device__ void convert(const float* x, long long n, T* out) {
    for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x) put(out + i, x[i]);
}

extern "C" __global__ void convert_f32(const float* x, long long n, float* out) { convert(x, n, out); }
extern "C" __global__ void convert_bf16(const float* x, long long n, bf16* out) { convert(x, n, out); }

// Rows of patches, [pictures * down * across, k], from pictures [height, width, channels]; a block for each. k may be more than a patch
// has: the rest is zero.
template <class T>
__device__ void unfold(const T* pictures, int height, int width, int channels, int side, int k, T* out) {
    int down = height / side, across = width / side;
    int patch = blockIdx.x % (down * across), picture = blockIdx.x / (down * across);
    int run = side * channels;
    const T* from = pictures + (((size_t)picture * height + patch / across * side) * width + patch % across * side) * channels;
    T* to = out + (size_t)blockIdx.x * k;
    for (int i = threadIdx.x; i < k; i += blockDim.x) {
        T v = {};
        if (i < side * run) v = from[(size_t)(i / run) * width * channels + i % run];
        to[i] = v;
    }
}

extern "C" __global__ void unfold_f32(const float* pictures, int height, int width, int channels, int side, int k, float* out) {
    unfold(pictures, height, width, channels, side, k, out);
}
extern "C" __global__ void unfold_bf16(const bf16* pictures, int height, int width, int channels, int side, int k, bf16* out) {
    unfold(pictures, height, width, channels, side, k, out);
}

// The states that go into the first block: before each picture's patches, [patches, dim], the class token where there is one; to each
// patch its position. A block for each row.
extern "C" __global__ void assemble(const float* patches, const float* token, int n_before, const float* positions, int n_patches, int dim, float* x) {
    int n = n_before + n_patches, picture = blockIdx.x / n, i = (int)(blockIdx.x % n) - n_before;
    float* to = x + (size_t)blockIdx.x * dim;
    const float* from = patches + ((size_t)picture * n_patches + i) * dim;
    const float* position = positions + (size_t)i * dim;
    for (int c = threadIdx.x; c < dim; c += blockDim.x) to[c] = i < 0 ? token[c] : from[c] + position[c];
}

// Some rows of x, [.., dim], by their numbers; a block for each.
extern "C" __global__ void gather(const float* x, const int* rows, int dim, float* out) {
    for (int c = threadIdx.x; c < dim; c += blockDim.x) out[(size_t)blockIdx.x * dim + c] = x[(size_t)rows[blockIdx.x] * dim + c];
}

// Attention within sequences: rows of queries, keys and values stand `stride` apart, heads side by side in each; first[s] is the row at
// which sequence s begins, first[s + 1] the one after its last. Queries come divided by the root of the head's width. Blocks
// (sequence, head, tile of queries). The softmax is taken as keys come along (Milakov and Gimelshein, "Online normalizer calculation for
// softmax", 2018; Dao, "FlashAttention-2", 2023), so no scores go to memory.

// By plain multiplications: four warps of four queries, 32 keys at a time, one for each lane.
constexpr int PLAIN_QUERIES = 16, COLUMNS = (HEAD + 31) / 32;

template <class T>
__device__ void attend_plain(const T* q, const T* k, const T* v, int stride, const int* first, int causal, T* out, int out_stride) {
    // One number more per row of keys, so that the lanes' keys are in different banks.
    __shared__ float keys[32][HEAD + 1], values[32][HEAD];
    alignas(16) __shared__ float queries[4][HEAD][4], weights[4][32][4];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, at = blockIdx.y * HEAD;
    int begin = first[blockIdx.x], n = first[blockIdx.x + 1] - begin;
    int tile = blockIdx.z * PLAIN_QUERIES, query = tile + 4 * warp;
    if (tile >= n) return;
    for (int i = lane; i < 4 * HEAD; i += 32) {
        int row = query + i / HEAD;
        queries[warp][i % HEAD][i / HEAD] = row < n ? wide(q[(size_t)(begin + row) * stride + at + i % HEAD]) : 0.0f;
    }
    float largest[4], sum[4], mixed[4][COLUMNS];
    for (int i = 0; i < 4; i++) {
        largest[i] = nothing();
        sum[i] = 0;
        for (int c = 0; c < COLUMNS; c++) mixed[i][c] = 0;
    }
    // Read causally, no query of the tile sees beyond the tile.
    int n_keys = causal && tile + PLAIN_QUERIES < n ? tile + PLAIN_QUERIES : n;
    for (int key = 0; key < n_keys; key += 32) {
        __syncthreads();
        for (int i = threadIdx.x; i < 32 * HEAD; i += blockDim.x) {
            int row = key + i / HEAD;
            size_t from = (size_t)(begin + row) * stride + at + i % HEAD;
            keys[i / HEAD][i % HEAD] = row < n ? wide(k[from]) : 0.0f;
            values[i / HEAD][i % HEAD] = row < n ? wide(v[from]) : 0.0f;
        }
        __syncthreads();
        float score[4] = {};
        for (int d = 0; d < HEAD; d++) {
            float of_key = keys[lane][d];
            Four<float> of_queries = *(const Four<float>*)queries[warp][d];
            for (int i = 0; i < 4; i++) score[i] += of_queries.v[i] * of_key;
        }
        Four<float> weight;
        for (int i = 0; i < 4; i++) {
            bool seen = key + lane < n && !(causal && key + lane > query + i);
            float larger = fmaxf(largest[i], warp_max(seen ? score[i] : nothing()));
            // Every query sees the first key, so from the first tile on the largest score is a number.
            float shrink = expf(largest[i] - larger);
            weight.v[i] = seen ? expf(score[i] - larger) : 0.0f;
            largest[i] = larger;
            sum[i] = sum[i] * shrink + weight.v[i];
            for (int c = 0; c < COLUMNS; c++) mixed[i][c] *= shrink;
        }
        *(Four<float>*)weights[warp][lane] = weight;
        __syncwarp();
        for (int j = 0; j < 32; j++) {
            Four<float> of_key = *(const Four<float>*)weights[warp][j];
            for (int c = 0; c < COLUMNS; c++) {
                int d = 32 * c + lane;
                float value = d < HEAD ? values[j][d] : 0.0f;
                for (int i = 0; i < 4; i++) mixed[i][c] += of_key.v[i] * value;
            }
        }
    }
    for (int i = 0; i < 4; i++) {
        float inverse = 1.0f / warp_sum(sum[i]);
        for (int c = 0; c < COLUMNS; c++) {
            int d = 32 * c + lane;
            if (query + i < n && d < HEAD) put(out + (size_t)(begin + query + i) * out_stride + at + d, mixed[i][c] * inverse);
        }
    }
}

extern "C" __global__ void attend_f32(const float* q, const float* k, const float* v, int stride, const int* first, int causal, float* out, int out_stride) {
    attend_plain(q, k, v, stride, first, causal, out, out_stride);
}
extern "C" __global__ void attend_bf16(const bf16* q, const bf16* k, const bf16* v, int stride, const int* first, int causal, bf16* out, int out_stride) {
    attend_plain(q, k, v, stride, first, causal, out, out_stride);
}

// On tensor cores: four warps of 16 queries, 64 keys at a time. Heads and strides must be multiples of 8, so that rows are read 16
// bytes at once. The layout of the fragments is that of the PTX manual, "Matrix Fragments for mma.m16n8k16": of a lane, `group` is
// its row (or its column, in the second factor), and `pair` which two neighbours along the other side it holds.
#if HEAD % 8 == 0 && (defined(ON_HOST) || __CUDA_ARCH__ >= 800)
constexpr int TILE = 64, FILLED = (HEAD + 15) / 16 * 16;

#ifndef ON_HOST
// d += a b, [16, 16] by [16, 8].
__device__ inline void multiply_add(float* d, const unsigned* a, unsigned b0, unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Four matrices [8, 8] of bf16 turned on their way; lane i names row i % 8 of matrix i / 8.
__device__ inline void load_turned(unsigned* r, const bf16* row) {
    unsigned at = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

// Two numbers to bf16, the first in the lower half.
__device__ inline unsigned pack(float low, float high) {
    unsigned both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}
#endif

struct alignas(16) Eight {
    bf16 v[8];
};

// The next 64 rows of one head, zero behind the last row and behind the head's width.
__device__ inline void load_tile(bf16 (*tile)[FILLED + 8], const bf16* from, int stride, int row, int n) {
    constexpr int PER_ROW = FILLED / 8;
    for (int i = threadIdx.x; i < TILE * PER_ROW; i += blockDim.x) {
        int r = i / PER_ROW, c = i % PER_ROW * 8;
        Eight eight = {};
        if (row + r < n && c < HEAD) eight = *(const Eight*)(from + (size_t)(row + r) * stride + c);
        *(Eight*)&tile[r][c] = eight;
    }
}

__device__ inline unsigned two(const bf16* at) { return *(const unsigned*)at; }

extern "C" __global__ void __launch_bounds__(128) attend_tensor(const bf16* q, const bf16* k, const bf16* v, int stride, const int* first, int causal, bf16* out, int out_stride) {
    // Eight numbers more per row, so that neither reading pairs nor reading rows of 8 meets a bank twice.
    alignas(16) __shared__ bf16 keys[TILE][FILLED + 8], values[TILE][FILLED + 8];
    constexpr float LOG2_E = 1.44269504f;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = lane / 4, pair = lane % 4 * 2;
    int begin = first[blockIdx.x], n = first[blockIdx.x + 1] - begin;
    int tile = blockIdx.z * TILE;
    if (tile >= n) return;
    size_t from = (size_t)begin * stride + blockIdx.y * HEAD;
    load_tile(keys, q + from, stride, tile, n);
    __syncthreads();
    unsigned queries[FILLED / 16][4];
    for (int s = 0; s < FILLED / 16; s++) {
        const bf16* at = &keys[16 * warp + group][16 * s + pair];
        queries[s][0] = two(at);
        queries[s][1] = two(at + 8 * (FILLED + 8));
        queries[s][2] = two(at + 8);
        queries[s][3] = two(at + 8 * (FILLED + 8) + 8);
    }
    // Rows `group` and `group + 8` of the warp's queries.
    int query[2] = {tile + 16 * warp + group, tile + 16 * warp + group + 8};
    float largest[2] = {nothing(), nothing()}, sum[2] = {0, 0}, mixed[FILLED / 8][4] = {};
    int n_keys = causal && tile + TILE < n ? tile + TILE : n;
    bool works = tile + 16 * warp < n;
    for (int key = 0; key < n_keys; key += TILE) {
        __syncthreads();
        load_tile(keys, k + from, stride, key, n);
        load_tile(values, v + from, stride, key, n);
        __syncthreads();
        if (!works) continue;
        float scores[TILE / 8][4] = {};
#pragma unroll
        for (int c = 0; c < TILE / 8; c++) {
            if (key + 8 * c < n_keys) {
#pragma unroll
                for (int s = 0; s < FILLED / 16; s++) {
                    const bf16* at = &keys[8 * c + group][16 * s + pair];
                    multiply_add(scores[c], queries[s], two(at), two(at + 8));
                }
            }
        }
        float larger[2] = {largest[0], largest[1]};
#pragma unroll
        for (int c = 0; c < TILE / 8; c++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int column = key + 8 * c + pair + i % 2;
                if (column >= n || (causal && column > query[i / 2])) scores[c][i] = nothing();
                larger[i / 2] = fmaxf(larger[i / 2], scores[c][i]);
            }
        }
        float shrink[2];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            larger[h] = fmaxf(larger[h], __shfl_xor_sync(0xffffffffu, larger[h], 1));
            larger[h] = fmaxf(larger[h], __shfl_xor_sync(0xffffffffu, larger[h], 2));
            // Every query sees the first key, so from the first tile on the largest score is a number.
            shrink[h] = exp2f((largest[h] - larger[h]) * LOG2_E);
            largest[h] = larger[h];
            sum[h] *= shrink[h];
        }
#pragma unroll
        for (int d = 0; d < FILLED / 8; d++) {
#pragma unroll
            for (int i = 0; i < 4; i++) mixed[d][i] *= shrink[i / 2];
        }
#pragma unroll
        for (int c = 0; c < TILE / 8; c++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                scores[c][i] = exp2f((scores[c][i] - largest[i / 2]) * LOG2_E);
                sum[i / 2] += scores[c][i];
            }
        }
        // What two neighbouring products of [16, 8] gave lies as the first factor of [16, 16] must.
#pragma unroll
        for (int s = 0; s < TILE / 16; s++) {
            if (key + 16 * s < n_keys) {
                unsigned weights[4] = {pack(scores[2 * s][0], scores[2 * s][1]), pack(scores[2 * s][2], scores[2 * s][3]),
                                       pack(scores[2 * s + 1][0], scores[2 * s + 1][1]), pack(scores[2 * s + 1][2], scores[2 * s + 1][3])};
#pragma unroll
                for (int d = 0; d < FILLED / 16; d++) {
                    unsigned turned[4];
                    load_turned(turned, &values[16 * s + lane % 16][16 * d + lane / 16 * 8]);
                    multiply_add(mixed[2 * d], weights, turned[0], turned[1]);
                    multiply_add(mixed[2 * d + 1], weights, turned[2], turned[3]);
                }
            }
        }
    }
    if (!works) return;
    for (int h = 0; h < 2; h++) {
        sum[h] += __shfl_xor_sync(0xffffffffu, sum[h], 1);
        sum[h] += __shfl_xor_sync(0xffffffffu, sum[h], 2);
        if (query[h] >= n) continue;
        float inverse = 1.0f / sum[h];
        bf16* to = out + (size_t)(begin + query[h]) * out_stride + blockIdx.y * HEAD;
        for (int d = 0; d < FILLED / 8; d++) {
            // Of a width that is no multiple of 16 the last eight columns are filling.
            if (8 * d < HEAD) *(unsigned*)(to + 8 * d + pair) = pack(mixed[d][2 * h] * inverse, mixed[d][2 * h + 1] * inverse);
        }
    }
}
#endif
