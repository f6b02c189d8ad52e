/* The least cost of a network of class CAT(depth), by trying every one of them: no bound, no pruning.

   Written for checks, apart from the search: it reads a problem from standard input, derives every test once more from the definition,
   token by token as attention (argmax of integer scores with a sink, or a sum), and tries all trees. Equal columns are kept once.
   Input, blanks between numbers: N n V K depth price ragged by_column families(bits: 1 place, 2 count, 4 compare, 8 selection, 16 odd),
   V columns of names, number of contexts, kind a b of each (0 none 1 back 2 first 3 last 4 repeat 5 balance 6 mirror 7 pair),
   N rows of n codes, N rows of K costs. Output: the minimum, and the number of columns of each context. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long word;
enum { NONE, BACK, FIRST, LAST, REPEAT, BALANCE, MIRROR, PAIR };
enum { PLACE = 1, COUNT = 2, COMPARE = 4, SELECT = 8, ODD = 16 };
enum { TOKEN, BOTH, MATCH, FLAG, ANY };

static int N, n, V, K, depth, ragged, by_column, families, *home, *codes, *u, *held, W, P, M, room;
static long long price, *costs, *value_of;
static word *column_bits, *group, *made;

static void *get(size_t size) {
  void *p = calloc(size ? size : 1, 1);
  if (!p) { fprintf(stderr, "out of memory\n"); exit(3); }
  return p;
}

static long long number(void) {
  long long x;
  if (scanf("%lld", &x) != 1) { fprintf(stderr, "the input is cut short\n"); exit(2); }
  return x;
}

static int length_of(const int *row) {
  int m = 0;
  while (m < n && row[m] != V) m++;
  return m;
}

/* the name of the token with the largest score, or nothing if the sink's score 1 is larger */
static int copied(const int *row, int target) {
  int best = 1, name = V;
  for (int j = 0; j < n; j++) {
    int score = j == target ? 2 : 0;
    if (score > best) { best = score; name = row[j]; }
  }
  return name;
}

static int looked(const int *row, int i, int kind, int a, int b) {
  int m = length_of(row), best = 1, seen = 0, sum = 0;
  switch (kind) {
    case BACK: return copied(row, i - a);
    case FIRST: return copied(row, 0);
    case LAST: return copied(row, m - 1);
    case MIRROR: return copied(row, m - 1 - i);
    case PAIR: return (V + 2) * copied(row, i - 1) + copied(row, i - 2);
    case REPEAT:
      for (int j = 0; j < n; j++) {
        int score = j < i && row[j] == row[i] && row[j] != V ? 2 + j : 0;
        if (score > best) { best = score; seen = 1; }
      }
      return seen;
    case BALANCE:
      for (int j = 0; j <= i; j++) sum += (row[j] == a) - (row[j] == b);
      return sum > 0 ? 2 : sum < 0 ? 0 : 1;
  }
  return 0;
}

static int satisfies(int s, int r, int kind, int a, int b) {
  if (s == V) return 0;
  switch (kind) {
    case TOKEN: return s == a;
    case BOTH: return s == a && r == b;
    case MATCH: return s == r;
    case FLAG: return r == a;
  }
  return 1;
}

/* keep the column in `made` unless it is constant or an equal or complementary one is there */
static void keep(void) {
  word last = N % 64 ? ((word)1 << N % 64) - 1 : ~(word)0, any = 0;
  if (made[0] & 1) for (int w = 0; w < W; w++) made[w] = ~made[w];
  made[W - 1] &= last;
  for (int w = 0; w < W; w++) any |= made[w];
  if (any) {
    int t = 0;
    while (t < M && memcmp(column_bits + (size_t)t * W, made, W * sizeof(word))) t++;
    if (t == M) {
      if (M == room) {
        room = 2 * room + 64;
        column_bits = realloc(column_bits, (size_t)room * W * sizeof(word));
        if (!column_bits) { fprintf(stderr, "out of memory\n"); exit(3); }
      }
      memcpy(column_bits + (size_t)M++ * W, made, W * sizeof(word));
    }
  }
  memset(made, 0, W * sizeof(word));
}

static void set(int s, int bit) { if (bit) made[s / 64] |= (word)1 << s % 64; }

static void hold(int kind, int a, int b) {
  for (int t = 0; t < N * n; t++) held[t] = satisfies(codes[t], u[t], kind, a, b);
}

static int count_of(int s) {
  int c = 0;
  for (int j = 0; j < n; j++) c += held[s * n + j];
  return c;
}

/* the token a hard head selects, −1 for the sink */
static int selected(int s, int last) {
  int best = 1, at = -1;
  for (int j = 0; j < n; j++) {
    int score = held[s * n + j] * (last ? 2 + j : n + 2 - j);
    if (score > best) { best = score; at = j; }
  }
  return at;
}

static void place_and_count(int any) {
  for (int p = 0; (families & PLACE) && !any && p < n; p++) {
    for (int s = 0; s < N; s++) set(s, held[s * n + p]);
    keep();
    for (int s = 0; s < N && ragged; s++) {
      int at = length_of(codes + s * n) - 1 - p;
      set(s, at >= 0 && held[s * n + at]);
    }
    keep();
  }
  for (int k = 1; (families & COUNT) && k <= n; k++) {
    for (int s = 0; s < N; s++) set(s, count_of(s) >= k);
    keep();
    for (int s = 0; s < N && k < n; s++) set(s, count_of(s) == k);
    keep();
  }
  for (int s = 0; s < N && (families & ODD); s++) set(s, count_of(s) % 2);
  keep();
}

/* what: 0 position >= value, 1 name = value, 2 u = value */
static void select_all(int what, int from, int to) {
  for (int last = 0; (families & SELECT) && last < 2; last++)
    for (int value = from; value < to; value++) {
      for (int s = 0; s < N; s++) {
        int at = selected(s, last);
        set(s, at >= 0 && (what == 0 ? at >= value : (what == 1 ? codes : u)[s * n + at] == value));
      }
      keep();
    }
}

static void plain_tests(void) {
  if (by_column) {
    for (int a = 0; a < V && (families & PLACE); a++) {
      for (int s = 0; s < N; s++) set(s, codes[s * n + home[a]] == a);
      keep();
    }
    return;
  }
  for (int a = 0; a < V; a++) {
    hold(TOKEN, a, 0);
    place_and_count(0);
    select_all(0, 1, n);
  }
  if (ragged) { hold(ANY, 0, 0); place_and_count(1); }
  for (int a = 0; (families & COMPARE) && a < V; a++)
    for (int b = a + 1; b < V; b++)
      for (int k = 1 - n; k <= n; k++) {
        for (int s = 0; s < N; s++) {
          int sum = 0;
          for (int j = 0; j < n; j++) sum += (codes[s * n + j] == a) - (codes[s * n + j] == b);
          set(s, k < n ? sum >= k : sum == 0);
        }
        keep();
      }
}

static void context_tests(int kind) {
  int typed = kind == BACK || kind == FIRST || kind == LAST || kind == MIRROR;
  int size = kind == REPEAT ? 2 : kind == BALANCE ? 3 : kind == PAIR ? (V + 2) * (V + 2) : V + 1;
  for (int a = 0; a < V; a++) { hold(TOKEN, a, 0); select_all(2, 0, size); }
  if (typed) { hold(MATCH, 0, 0); place_and_count(0); select_all(1, 0, V); }
  for (int b = 0; b < size; b++) {
    if (kind == PAIR && (b % (V + 2) > V || b / (V + 2) > V)) continue; /* names that training did not show */
    if (!typed) { hold(FLAG, b, 0); place_and_count(0); select_all(1, 0, V); }
    for (int a = 0; a < V; a++) { hold(BOTH, a, b); place_and_count(0); }
  }
}

/* the least cost of one answer, and with `left` more tests of the best tree, on the rows of a mask */
static long long value(const word *mask, int left) {
  long long best = -1, total[64] = {0};
  for (int p = 0; p < P; p++) {
    long long c = 0;
    for (int w = 0; w < W; w++) c += __builtin_popcountll(mask[w] & group[(size_t)p * W + w]);
    for (int k = 0; k < K; k++) total[k] += c * value_of[p * K + k];
  }
  for (int k = 0; k < K; k++) if (best < 0 || total[k] < best) best = total[k];
  if (left) {
    word *yes = get(2 * W * sizeof(word)), *no = yes + W;
    for (int t = 0; t < M; t++) {
      for (int w = 0; w < W; w++) {
        yes[w] = mask[w] & column_bits[(size_t)t * W + w];
        no[w] = mask[w] & ~column_bits[(size_t)t * W + w];
      }
      long long both = price + value(yes, left - 1) + value(no, left - 1);
      if (both < best) best = both;
    }
    free(yes);
  }
  return best;
}

int main(void) {
  N = number(), n = number(), V = number(), K = number(), depth = number(), price = number();
  ragged = number(), by_column = number(), families = number();
  if (N < 1 || n < 1 || V < 0 || K < 1 || K > 64) return 2;
  home = get(V * sizeof(int));
  for (int a = 0; a < V; a++) home[a] = number();
  int contexts = number(), *context = get(3 * contexts * sizeof(int));
  for (int c = 0; c < 3 * contexts; c++) context[c] = number();
  W = (N + 63) / 64;
  size_t cells = (size_t)N * n;
  codes = get(cells * sizeof(int)), u = get(cells * sizeof(int)), held = get(cells * sizeof(int)), made = get(W * sizeof(word));
  costs = get((size_t)N * K * sizeof(long long)), value_of = get((size_t)N * K * sizeof(long long)), group = get((size_t)N * W * sizeof(word));
  for (size_t t = 0; t < cells; t++) codes[t] = number();
  for (int t = 0; t < N * K; t++) costs[t] = number();
  for (int s = 0; s < N; s++) { /* rows of equal costs are one group */
    int p = 0;
    while (p < P && memcmp(value_of + (size_t)p * K, costs + (size_t)s * K, K * sizeof(long long))) p++;
    if (p == P) memcpy(value_of + (size_t)P++ * K, costs + (size_t)s * K, K * sizeof(long long));
    group[(size_t)p * W + s / 64] |= (word)1 << s % 64;
  }
  word *all = get(W * sizeof(word));
  for (int s = 0; s < N; s++) all[s / 64] |= (word)1 << s % 64;
  long long best = -1;
  for (int c = 0; c < contexts; c++) {
    int kind = context[3 * c];
    for (int s = 0; s < N; s++)
      for (int i = 0; i < n; i++) u[s * n + i] = looked(codes + s * n, i, kind, context[3 * c + 1], context[3 * c + 2]);
    M = 0;
    plain_tests();
    if (kind != NONE) context_tests(kind);
    long long found = value(all, depth) + (kind != NONE ? price : 0);
    if (best < 0 || found < best) best = found;
    fprintf(stderr, "%d\n", M);
  }
  printf("%lld\n", best);
  return 0;
}
